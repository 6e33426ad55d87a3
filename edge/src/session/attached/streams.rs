//! What a client wants to publish and play, where its application has a say in that.

use super::*;

use headwater_rtmp::command::{PlayLength, PlayStart};

impl Session {
    /// Has the application decide whether the client may do what it wants. Gives it back where the application has no say.
    pub(in crate::session) async fn ask_application(&mut self, wish: Wish) -> Option<Wish> {
        let publishes = wish.publishes();
        let attached = self.attached.as_mut();
        let Some(attached) = attached.filter(|it| it.wants_to_decide(publishes)) else {
            return Some(wish);
        };
        if attached.asked.len() >= MAX_ASKED {
            let why = "Too much waits for the application.".to_owned();
            self.refuse_wish(&wish, "", why);
            return None;
        }
        let (client, number, patience) = (attached.client, attached.number(), attached.patience);
        let said = match &wish {
            Wish::Publish(request) => {
                let ask = v1::AskPublish {
                    client,
                    ask: number,
                    stream: request.name.clone(),
                    query: request.query.clone().unwrap_or_default(),
                    mode: publish::mode_asked(request.mode).into(),
                };
                Said::Publish(Box::new(ask), patience)
            }
            Wish::Play(request) => {
                let query = request.query.clone().unwrap_or_default();
                let (start, length) = (request.start, request.length);
                let ask = ask_play(client, number, &request.name, query, start, length);
                Said::Play(Box::new(ask), patience)
            }
            Wish::Play2(_, parameters) => {
                let (name, query) = parameters
                    .stream_name
                    .split_once('?')
                    .unwrap_or((&parameters.stream_name, ""));
                let (start, length) = (parameters.start, parameters.length);
                let ask = ask_play(client, number, name, query.to_owned(), start, length);
                Said::Play(Box::new(ask), patience)
            }
        };
        attached.asked.push_back(Asked {
            number,
            wish,
            is_over: false,
            decision: None,
            early: Vec::new(),
            early_bytes: 0,
        });
        attached.say(said).await;
        None
    }

    pub(super) async fn decided(&mut self, decision: v1::StreamDecision) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let mut asked = attached.asked.iter_mut();
        let Some(asked) = asked.find(|asked| asked.number == decision.ask) else {
            return;
        };
        let stream_id = asked.wish.stream_id();
        asked.decision = Some(decision);
        // This one, unless one before it waits; and those that waited for this one.
        loop {
            let Some(attached) = &mut self.attached else {
                return;
            };
            let mut asked = attached.asked.iter();
            let first = asked.position(|asked| asked.wish.stream_id() == stream_id);
            let Some(index) = first.filter(|index| {
                let asked = attached.asked.get(*index);
                asked.is_some_and(|asked| asked.decision.is_some())
            }) else {
                return;
            };
            let Some(asked) = attached.asked.remove(index) else {
                return;
            };
            self.do_as_decided(asked).await;
        }
    }

    async fn do_as_decided(&mut self, asked: Asked) {
        let Asked {
            number,
            wish,
            is_over,
            decision,
            early,
            ..
        } = asked;
        let Some(decision) = decision else {
            return;
        };
        if !decision.allowed {
            if !is_over {
                self.refuse_wish(&wish, &decision.code, decision.description);
            }
            return;
        }
        let (stream_id, publishes) = (wish.stream_id(), wish.publishes());
        let stream = match decision.stream.as_str() {
            "" => wish.name().to_owned(),
            other => other.to_owned(),
        };
        if is_over {
            if let Some(attached) = &self.attached {
                attached.say_ended(publishes, number, stream).await;
            }
            return;
        }
        let replaces = match &wish {
            Wish::Play(request) => request.reset.resets(),
            Wish::Publish(_) | Wish::Play2(..) => false,
        };
        if replaces {
            self.grants_ended(stream_id).await;
        }
        self.grant(Granted {
            stream_id,
            number,
            publishes,
            stream: stream.clone(),
        })
        .await;
        debug!(stream, number, "the application allows it");
        match wish {
            Wish::Publish(request) => {
                self.begin_publish(request, &stream);
                for frame in early {
                    self.media(stream_id, frame).await;
                }
            }
            Wish::Play(request) => self.begin_play(request, &stream),
            Wish::Play2(_, parameters) => self.begin_play2(stream_id, &parameters, &stream),
        }
    }

    async fn grant(&mut self, granted: Granted) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if attached.granted.len() >= MAX_GRANTED {
            let oldest = attached.granted.remove(0);
            let Granted {
                number,
                publishes,
                stream,
                ..
            } = oldest;
            attached.say_ended(publishes, number, stream).await;
        }
        attached.granted.push(granted);
    }

    fn refuse_wish(&mut self, wish: &Wish, code: &str, description: String) {
        let code = StatusCode::parse(code);
        let description = match description.as_str() {
            "" => "The application does not allow it.".to_owned(),
            _ => description,
        };
        match wish {
            Wish::Publish(request) => {
                let code = code.unwrap_or(StatusCode::PublishDenied);
                self.refuse_publish(request.stream_id, &request.name, code, &description);
            }
            Wish::Play(request) => {
                let code = code.unwrap_or(StatusCode::PlayFailed);
                let replaces = request.reset.resets();
                self.refuse_play(
                    request.stream_id,
                    &request.name,
                    replaces,
                    code,
                    description,
                );
            }
            Wish::Play2(stream_id, parameters) => {
                let code = code.unwrap_or(StatusCode::PlayFailed);
                self.refuse_play(
                    *stream_id,
                    &parameters.stream_name,
                    false,
                    code,
                    description,
                );
            }
        }
    }

    /// The client has stopped what it did with a message stream, or does not want it any more.
    pub(in crate::session) async fn stream_ended(&mut self, stream_id: u32) {
        if let Some(attached) = &mut self.attached {
            for asked in &mut attached.asked {
                asked.is_over |= asked.wish.stream_id() == stream_id;
            }
            self.grants_ended(stream_id).await;
        }
    }

    /// What was granted on a message stream has failed, or was ended by somebody else. The application hears of it in a moment.
    pub(in crate::session) fn note_ended(&mut self, stream_id: u32) {
        if let Some(attached) = &mut self.attached
            && attached.granted.iter().any(|it| it.stream_id == stream_id)
            && !attached.over.contains(&stream_id)
        {
            attached.over.push(stream_id);
        }
    }

    /// Whether [`Self::say_ends`] has something to say.
    pub(in crate::session) fn has_ends(&self) -> bool {
        self.attached.as_ref().is_some_and(|it| !it.over.is_empty())
    }

    pub(in crate::session) async fn say_ends(&mut self) {
        while let Some(stream_id) = self.attached.as_mut().and_then(|it| it.over.pop()) {
            self.grants_ended(stream_id).await;
        }
    }

    async fn grants_ended(&mut self, stream_id: u32) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let of_it = |granted: &mut Granted| granted.stream_id == stream_id;
        let ended: Vec<Granted> = attached.granted.extract_if(.., of_it).collect();
        for granted in ended {
            let Granted {
                number,
                publishes,
                stream,
                ..
            } = granted;
            attached.say_ended(publishes, number, stream).await;
        }
    }

    /// The application ends what it had allowed.
    pub(super) async fn end_stream(&mut self, end: &v1::EndStream) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let mut granted = attached.granted.iter();
        let Some(granted) = granted.find(|granted| granted.number == end.ask) else {
            return;
        };
        let (stream_id, stream) = (granted.stream_id, granted.stream.clone());
        let publishes = granted.publishes;
        info!(stream, publishes, "the application ends a stream");
        let code = StatusCode::parse(&end.code);
        let description = match end.description.as_str() {
            "" => "The application has ended it.",
            description => description,
        };
        if publishes {
            self.unpublish(stream_id);
            let code = code.unwrap_or(StatusCode::PublishDenied);
            let outcome = self.core.reject_publish(stream_id, code, description);
            self.note_failure(outcome);
        } else {
            self.stop_playing(stream_id);
            let code = code.unwrap_or(StatusCode::PlayFailed);
            self.fail_play(stream_id, code, &stream, description);
        }
        self.grants_ended(stream_id).await;
    }
}

/// What an application is asked.
fn ask_play(
    client: u64,
    number: u64,
    name: &str,
    query: String,
    start: PlayStart,
    length: PlayLength,
) -> v1::AskPlay {
    v1::AskPlay {
        client,
        ask: number,
        stream: name.to_owned(),
        query,
        start: start.to_wire() / 1_000.0,
        length: match length {
            PlayLength::All => -1.0,
            length => length.to_wire() / 1_000.0,
        },
    }
}
