//! A NetStream that plays.
//!
//! A client that plays a live stream is a [`Play`] of its connection, and nothing else. Whatever needs more than that, a recording, a
//! playlist, a pause or a seek of what may be recorded, has a [`Player`] for as long as it needs one: the player decides, and
//! what it decides is done here.

use super::*;

use super::attached::Wish;
use headwater_rtmp::command::{Play2Parameters, PlayLength, PlayRequest, PlayReset, PlayStart};
use tokio::task::JoinHandle;

use crate::fanout::LocalHub;
use crate::fanout::play::{Play, WireSettings};
use crate::player::{Action, Entry, Notice, Player, Transition};

mod controls;

/// How long the answer may take whether a stream is published.
const FIND_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams whose buffer lengths are remembered: as many as a client may have.
const MAX_BUFFERS: usize = 64;

/// A question of a player that waits for its answer.
pub(super) struct Question {
    stream_id: u32,
    number: u64,
    answer: JoinHandle<()>,
}

impl Drop for Question {
    fn drop(&mut self) {
        // A client that changes its mind a thousand times a second leaves nothing behind.
        self.answer.abort();
    }
}

impl Session {
    pub(super) async fn play(&mut self, request: PlayRequest) {
        let replaces = request.reset.resets();
        if !self.may_play(request.stream_id, &request.name, replaces) {
            return;
        }
        if let Some(Wish::Play(request)) = self.ask_application(Wish::Play(request)).await {
            let name = request.name.clone();
            self.begin_play(request, &name);
        }
    }

    /// Plays what the client may play, `stream` as the application has it.
    pub(super) fn begin_play(&mut self, request: PlayRequest, stream: &str) {
        let (stream_id, resets) = (request.stream_id, request.reset.resets());
        let Some(mut entry) = self.entry(stream_id, &request.name, stream, resets) else {
            return;
        };
        entry.start = request.start;
        entry.length = request.length;
        entry.untimed = matches!(
            request.reset,
            PlayReset::AppendUntimed | PlayReset::ResetUntimed
        );
        let mut connection = self.connection.borrow_mut();
        let has_player = connection.player(stream_id).is_some();
        let has_play = connection.play(stream_id).is_some();
        drop(connection);
        let live = match entry.start {
            PlayStart::Live => true,
            PlayStart::LiveOrRecorded => self.is_live_here(&entry.stream),
            PlayStart::At(_) => false,
        };
        if live && !has_player && (resets || !has_play) {
            // The usual case: nothing to be found out, and nothing but the live stream to be played.
            self.drop_play(stream_id);
            let notice = Notice::Start {
                name: entry.name.clone(),
                reset: resets,
                recorded: false,
            };
            if let Err(why) = self.go_live(stream_id, &entry, Some(&notice)) {
                self.fail_play(stream_id, StatusCode::PlayFailed, &entry.name, why);
            }
            return;
        }
        self.with_player(stream_id, |player, _| player.play(entry, resets));
    }

    /// Whether the application lets the client play it. It is told, if not. `replaces`: instead of what it plays now.
    fn may_play(&mut self, stream_id: u32, name: &str, replaces: bool) -> bool {
        let Some(application) = &self.application else {
            return false;
        };
        let policy = application.policy();
        let why = if !policy.play {
            format!("The application {} has no players.", application.name())
        } else if !self.may(&policy, false, name) {
            format!("The client has no read access to {name}.")
        } else {
            return true;
        };
        self.refuse_play(stream_id, name, replaces, StatusCode::PlayFailed, why);
        false
    }

    /// What the client wants to play, `stream` as the application has it. `replaces`: instead of what it plays now.
    fn entry(&mut self, stream_id: u32, name: &str, stream: &str, replaces: bool) -> Option<Entry> {
        let application = self.application.as_ref()?;
        match application.stream(stream) {
            Ok(stream) => Some(Entry {
                may_come: application.policy().publish,
                ..Entry::new(name, Arc::new(stream))
            }),
            Err(error) => {
                let (code, why) = (StatusCode::PlayStreamNotFound, format!("{name}: {error}."));
                self.refuse_play(stream_id, name, replaces, code, why);
                None
            }
        }
    }

    pub(super) fn refuse_play(
        &mut self,
        stream_id: u32,
        name: &str,
        replaces: bool,
        code: StatusCode,
        description: String,
    ) {
        let mut connection = self.connection.borrow_mut();
        let plays = connection.player(stream_id).is_some() || connection.play(stream_id).is_some();
        drop(connection);
        if plays && !replaces {
            let notice = Notice::EntryFailed {
                code,
                name: name.to_owned(),
                why: description,
            };
            self.tell(stream_id, &notice);
        } else {
            self.stop_playing(stream_id);
            self.fail_play(stream_id, code, name, &description);
        }
    }

    /// Whether this edge plays the live stream to somebody already.
    fn is_live_here(&self, stream: &StreamName) -> bool {
        self.worker.shared.upstream.hubs.is_published(stream)
    }

    pub(super) fn fail_play(
        &mut self,
        stream_id: u32,
        code: StatusCode,
        name: &str,
        description: &str,
    ) {
        info!(stream = name, %code, description, "play failed");
        self.note_ended(stream_id);
        let outcome = self.core.play_failed(stream_id, code, name, description);
        self.note_failure(outcome);
    }

    /// Takes what the client says to the player of a stream, which is made if there is none.
    fn with_player(&mut self, stream_id: u32, change: impl FnOnce(&mut Player, Duration)) {
        let now = self.now();
        let mut connection = self.connection.borrow_mut();
        if connection.player(stream_id).is_none() {
            let pacing = self.worker.shared.config.edge.playback.pacing();
            self.player_number += 1;
            let mut player = match connection.play(stream_id) {
                Some(play) => {
                    let stream = Arc::new(play.hub().hub().name().clone());
                    let entry = Entry {
                        start: PlayStart::Live,
                        ..Entry::new(play.name.as_str(), stream)
                    };
                    let (audio, video) = play.receives();
                    let mut player = Player::of_live(stream_id, self.player_number, pacing, entry);
                    player.set_audio(audio);
                    player.set_video(video);
                    player
                }
                None => Player::new(stream_id, self.player_number, pacing),
            };
            let buffers = self.buffers.iter();
            // librtmp states its buffer for stream 0 before it makes its first stream.
            let known = buffers.filter(|(id, _)| *id == stream_id || *id == 0);
            if let Some((_, buffer)) = known.max_by_key(|(id, _)| *id) {
                player.set_buffer(now, *buffer);
            }
            connection.add_player(player);
        }
        if let Some(player) = connection.player(stream_id) {
            change(player, now);
        }
    }

    pub(super) fn stop_playing(&mut self, stream_id: u32) {
        self.questions
            .retain(|question| question.stream_id != stream_id);
        self.connection.borrow_mut().drop_player(stream_id);
        self.drop_play(stream_id);
    }

    fn drop_play(&mut self, stream_id: u32) {
        let mut connection = self.connection.borrow_mut();
        let plays = connection.plays();
        let gone: Vec<Play> = plays
            .extract_if(.., |play| play.stream_id == stream_id)
            .collect();
        // Outside the borrow: leaving a hub touches the list that the walk goes over, not the connection.
        drop(connection);
        for play in gone {
            let total = play.total();
            info!(
                stream = play.name,
                frames = total.frames,
                dropped = total.dropped,
                jumps = total.jumps,
                "stopped playing"
            );
        }
    }

    fn with_play(&self, stream_id: u32, change: impl FnOnce(&mut Play)) {
        if let Some(play) = self.connection.borrow_mut().play(stream_id) {
            change(play);
        }
    }

    /// Does what the players ask for, until they ask for nothing.
    pub(super) fn drive_players(&mut self) {
        loop {
            let next = self.connection.borrow_mut().poll_player_action();
            if let Some((stream_id, action)) = next {
                self.do_for_player(stream_id, action);
                continue;
            }
            // Not before: a play that is over may be one that its player has left already.
            let completed = self.connection.borrow_mut().take_completed();
            if completed.is_empty() {
                break;
            }
            for stream_id in completed {
                if let Some(player) = self.connection.borrow_mut().player(stream_id) {
                    player.live_over();
                }
            }
        }
        self.connection.borrow_mut().drop_idle_players();
        self.drop_unwanted_questions();
    }

    fn do_for_player(&mut self, stream_id: u32, action: Action) {
        if let Some(number) = action.question()
            && let Some(player) = self.connection.borrow_mut().player(stream_id)
            && !player.waits_for(number)
        {
            // It has changed its mind since.
            return;
        }
        match action {
            Action::Tell(notice) => self.tell(stream_id, &notice),
            Action::Describe { number, stream } => {
                let recorded = self.recorded();
                let notes = self.notes.teller();
                self.ask(stream_id, number, async move {
                    let answer = recorded.describe(&stream).await;
                    notes.tell(Note::Described {
                        stream_id,
                        number,
                        answer,
                    });
                });
            }
            Action::FindLive { number, stream } => self.find_live(stream_id, number, &stream),
            Action::Fetch {
                number,
                stream,
                generation,
                place,
            } => {
                let recorded = self.recorded();
                if let Some(piece) = recorded.cached(&stream, generation, place) {
                    self.piece_came(stream_id, number, Ok(piece));
                    return;
                }
                let notes = self.notes.teller();
                self.ask(stream_id, number, async move {
                    let answer = recorded.piece(&stream, generation, place).await;
                    notes.tell(Note::Piece {
                        stream_id,
                        number,
                        answer,
                    });
                });
            }
            Action::GoLive {
                name,
                stream,
                notice,
                length,
                ends,
                transition,
            } => {
                let entry = Entry {
                    length,
                    ..Entry::new(name, stream)
                };
                if let Err(why) = self.go_live(stream_id, &entry, notice.as_ref()) {
                    if let Some(player) = self.connection.borrow_mut().player(stream_id) {
                        player.live_failed(why);
                    }
                    return;
                }
                self.with_play(stream_id, |play| {
                    if ends {
                        play.end_with_publisher();
                    }
                    if transition {
                        play.complete_transition();
                    }
                });
            }
            Action::Join {
                name,
                stream,
                from,
                length,
                ends,
            } => {
                if !self.join(stream_id, &name, &stream, from, length) {
                    return;
                }
                if ends {
                    self.with_play(stream_id, Play::end_with_publisher);
                }
                if let Some(player) = self.connection.borrow_mut().player(stream_id) {
                    player.joined();
                }
            }
            Action::PauseLive(paused) => {
                self.with_play(stream_id, |play| play.set_paused(paused));
            }
            Action::RejoinLive => self.with_play(stream_id, Play::rejoin),
            Action::EndLive => self.with_play(stream_id, Play::end_with_publisher),
            Action::LeaveLive => self.drop_play(stream_id),
        }
    }

    fn tell(&mut self, stream_id: u32, notice: &Notice) {
        match notice {
            Notice::Start { name, recorded, .. } => info!(stream = name, recorded, "plays"),
            Notice::EntryFailed { code, name, why } => {
                info!(stream = name, %code, why, "play failed");
            }
            Notice::Failed { code, name, why } => {
                info!(stream = name, %code, why, "play failed");
                self.note_ended(stream_id);
            }
            Notice::Complete { name, bytes, .. } => {
                info!(stream = name, bytes, "played to the end");
            }
            _ => debug!(?notice, "told"),
        }
        let outcome = notice.tell(&mut self.core, stream_id);
        self.note_failure(outcome);
        // What is told goes before the media that follows it.
        self.transmit();
    }

    /// The stored streams as this client asks for them.
    pub(super) fn recorded(&mut self) -> Recorded {
        let shared = &self.worker.shared.recorded;
        self.recorded
            .get_or_insert_with(|| shared.for_client())
            .clone()
    }

    /// Lets go of the questions that the players do not wait for any more. What is left is one of each for what it plays, and one
    /// for what it goes over to.
    fn drop_unwanted_questions(&mut self) {
        let mut connection = self.connection.borrow_mut();
        self.questions.retain(|question| {
            let player = connection.player(question.stream_id);
            player.is_some_and(|player| player.waits_for(question.number))
        });
    }

    fn ask(&mut self, stream_id: u32, number: u64, question: impl Future<Output = ()> + 'static) {
        self.questions.push(Question {
            stream_id,
            number,
            answer: tokio::task::spawn_local(question),
        });
    }

    /// Takes the answer to a question off the list.
    fn answered(&mut self, stream_id: u32, number: u64) {
        self.questions
            .retain(|it| it.stream_id != stream_id || it.number != number);
        if self.questions.is_empty() {
            self.questions = Vec::new();
        }
    }

    pub(super) fn description_came(
        &mut self,
        stream_id: u32,
        number: u64,
        answer: Result<Description, RecordedError>,
    ) {
        self.answered(stream_id, number);
        let now = self.now();
        let hubs = &self.worker.shared.upstream.hubs;
        if let Some(player) = self.connection.borrow_mut().player(stream_id) {
            let live_here = player
                .asked_about(number)
                .is_some_and(|stream| hubs.is_published(stream));
            player.described(now, number, answer, live_here);
        }
    }

    /// Asks the stream's owner whether somebody publishes it, as a viewer would.
    fn find_live(&mut self, stream_id: u32, number: u64, stream: &StreamName) {
        let hub = self.worker.hubs.open(stream, || self.worker.set_up(stream));
        let Some(hub) = hub else {
            if let Some(player) = self.connection.borrow_mut().player(stream_id) {
                player.live_found(number, false);
            }
            return;
        };
        let notes = self.notes.teller();
        self.ask(stream_id, number, async move {
            let mut state = hub.hub().state();
            let known = state.wait_for(|state| state.is_some());
            let live = match tokio::time::timeout(FIND_TIMEOUT, known).await {
                Ok(Ok(state)) => *state == Some(true),
                _ => false,
            };
            notes.tell(Note::Live {
                stream_id,
                number,
                live,
            });
            // Held up to here, so that the stream is read for as long as the answer is waited for. It lingers for a moment, in
            // which the player begins to watch it.
            drop(hub);
        });
    }

    pub(super) fn live_found(&mut self, stream_id: u32, number: u64, live: bool) {
        self.answered(stream_id, number);
        if let Some(player) = self.connection.borrow_mut().player(stream_id) {
            player.live_found(number, live);
        }
    }

    pub(super) fn piece_came(
        &mut self,
        stream_id: u32,
        number: u64,
        answer: Result<Arc<Piece>, RecordedError>,
    ) {
        self.answered(stream_id, number);
        let now = self.now();
        let piece = answer.as_ref().ok().cloned();
        let recorded = piece.is_some().then(|| self.recorded());
        let mut connection = self.connection.borrow_mut();
        let Some(player) = connection.player(stream_id) else {
            return;
        };
        player.piece(now, number, answer);
        if let (Some(piece), Some(recorded)) = (piece, recorded)
            && let Some((stream, place)) = player.needs_soon(now, &piece)
        {
            recorded.prefetch(stream, piece.generation, place);
        }
    }

    /// Plays a live stream from its newest key frame on, or waits for it.
    fn go_live(
        &mut self,
        stream_id: u32,
        entry: &Entry,
        notice: Option<&Notice>,
    ) -> Result<(), &'static str> {
        let name = &entry.stream;
        let hub = self.worker.hubs.open(name, || self.worker.set_up(name));
        let hub = hub.ok_or("This server plays too many streams.")?;
        if let Some(notice) = notice {
            self.tell(stream_id, notice);
        }
        self.add_play(stream_id, &entry.name, &hub, entry.length, None);
        Ok(())
    }

    /// Plays a live stream from exactly this frame on. `false` if this edge does not hold it, or not yet.
    fn join(
        &mut self,
        stream_id: u32,
        name: &str,
        stream: &StreamName,
        from: Offset,
        length: PlayLength,
    ) -> bool {
        let hub = self.worker.hubs.open(stream, || self.worker.set_up(stream));
        let Some(hub) = hub else {
            return false;
        };
        let place = hub.hub().look(|ring| ring.place_of(from));
        let Some(place) = place.filter(|place| *place >= hub.mirror().base()) else {
            return false;
        };
        debug!(stream = name, %from, "joins the live stream");
        self.add_play(stream_id, name, &hub, length, Some(place));
        true
    }

    fn add_play(
        &mut self,
        stream_id: u32,
        name: &str,
        hub: &Rc<LocalHub>,
        length: PlayLength,
        place: Option<u64>,
    ) {
        let membership = hub.join(&self.connection);
        let wire = WireSettings {
            chunk_size: self.worker.shared.config.rtmp.chunk_bytes,
            encoding: self.core.object_encoding(),
        };
        let mut play = Play::new(stream_id, name.to_owned(), membership, wire);
        play.set_length(length);
        if let Some(place) = place {
            play.join_at(place);
        }
        let mut connection = self.connection.borrow_mut();
        if let Some(player) = connection.player(stream_id) {
            let (audio, video) = player.receives();
            play.set_audio(audio);
            play.set_video(video);
        }
        // One place, and not the four that a list begins with: a client rarely plays two streams.
        connection.plays().reserve_exact(1);
        connection.plays().push(play);
    }
}

/// A number of the client's as a whole number: what is not one is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, which is what is wanted"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
