//! A NetStream that plays.

use super::*;

use headwater_rtmp::command::{Play2Parameters, PlayRequest, PlayReset, PlayStart, TransactionId};
use headwater_rtmp::server::PlayAnswer;

use tokio::task::JoinHandle;

use crate::fanout::LocalHub;
use crate::fanout::play::{Play, WireSettings};

/// How long the answer may take whether a stream is published.
const FIND_TIMEOUT: Duration = Duration::from_secs(3);

/// A play whose answer depends on whether the stream is published.
pub(super) struct Waiting {
    request: PlayRequest,
    number: u64,
    hub: Rc<LocalHub>,
    answer: JoinHandle<()>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A client that changes its mind a thousand times a second leaves nothing behind.
        self.answer.abort();
    }
}

impl Session {
    pub(super) fn play(&mut self, request: PlayRequest) {
        let Some(application) = &self.application else {
            return;
        };
        let allowed = application.policy.play;
        let name = match application.stream(&request.name) {
            Ok(name) if allowed => name,
            Ok(_) => {
                let description = format!("The application {} has no players.", application.name);
                self.fail_play(&request, StatusCode::PlayFailed, &description);
                return;
            }
            Err(error) => {
                let description = format!("{}: {error}.", request.name);
                self.fail_play(&request, StatusCode::PlayStreamNotFound, &description);
                return;
            }
        };
        self.forget_waiting(request.stream_id);
        let Some(hub) = self.worker.hubs.open(&name, || self.worker.set_up(&name)) else {
            self.fail_play(
                &request,
                StatusCode::PlayFailed,
                "This server plays too many streams.",
            );
            return;
        };
        match request.start {
            // A live name that nobody publishes yet waits for its publisher.
            PlayStart::LiveOrRecorded | PlayStart::Live => self.start_playing(&request, &hub),
            // Many players ask for "from the start" and mean whatever there is.
            PlayStart::At(_) => self.find(request, hub),
        }
    }

    fn find(&mut self, request: PlayRequest, hub: Rc<LocalHub>) {
        self.play_number += 1;
        let number = self.play_number;
        let stream_id = request.stream_id;
        let mut state = hub.hub().state();
        let notes = self.notes.teller();
        let answer = tokio::task::spawn_local(async move {
            let known = state.wait_for(|state| state.is_some());
            let live = match tokio::time::timeout(FIND_TIMEOUT, known).await {
                Ok(Ok(state)) => *state == Some(true),
                _ => false,
            };
            notes.tell(Note::Found {
                stream_id,
                number,
                live,
            });
        });
        self.waiting.push(Waiting {
            request,
            number,
            hub,
            answer,
        });
    }

    pub(super) fn play_found(&mut self, stream_id: u32, number: u64, live: bool) {
        let found = self
            .waiting
            .iter()
            .position(|waiting| waiting.number == number && waiting.request.stream_id == stream_id);
        let Some(index) = found else {
            return;
        };
        let waiting = self.waiting.swap_remove(index);
        let (request, hub) = (waiting.request.clone(), Rc::clone(&waiting.hub));
        if live {
            self.start_playing(&request, &hub);
        } else {
            let description = format!("There is no stream \"{}\".", request.name);
            self.fail_play(&request, StatusCode::PlayStreamNotFound, &description);
        }
    }

    fn start_playing(&mut self, request: &PlayRequest, hub: &Rc<LocalHub>) {
        let stream_id = request.stream_id;
        info!(stream = %hub.hub().name(), "plays");
        // One NetStream plays one stream at a time; a playlist of live streams has no order to keep.
        self.drop_play(stream_id);
        let answer = PlayAnswer {
            name: request.name.clone(),
            reset: request.reset.resets(),
            ..PlayAnswer::default()
        };
        let outcome = self.core.play_started(stream_id, &answer);
        self.note_failure(outcome);
        // The answer goes first: frames are taken from the stream only when everything before them is out.
        self.transmit();
        let membership = hub.join(&self.connection);
        let wire = WireSettings {
            chunk_size: self.worker.shared.config.rtmp.chunk_bytes,
            encoding: self.core.object_encoding(),
        };
        let mut play = Play::new(stream_id, request.name.clone(), membership, wire);
        play.set_length(request.length);
        let mut connection = self.connection.borrow_mut();
        // One place, and not the four that a list begins with: a client rarely plays two streams.
        connection.plays().reserve_exact(1);
        connection.plays().push(play);
    }

    fn fail_play(&mut self, request: &PlayRequest, code: StatusCode, description: &str) {
        info!(stream = request.name, %code, "play failed");
        let outcome = self
            .core
            .play_failed(request.stream_id, code, &request.name, description);
        self.note_failure(outcome);
    }

    pub(super) fn stop_playing(&mut self, stream_id: u32) {
        self.forget_waiting(stream_id);
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

    fn forget_waiting(&mut self, stream_id: u32) {
        self.waiting
            .retain(|waiting| waiting.request.stream_id != stream_id);
    }

    pub(super) fn with_play(&mut self, stream_id: u32, change: impl FnOnce(&mut Play)) {
        let mut connection = self.connection.borrow_mut();
        let play = connection
            .plays()
            .iter_mut()
            .find(|play| play.stream_id == stream_id);
        if let Some(play) = play {
            change(play);
        }
    }

    /// A live stream goes on without a viewer that pauses; it comes back at the newest key frame.
    pub(super) fn pause(&mut self, stream_id: u32, paused: bool) {
        self.with_play(stream_id, |play| play.set_paused(paused));
        let code = if paused {
            StatusCode::PauseNotify
        } else {
            StatusCode::UnpauseNotify
        };
        let outcome = self.core.status(stream_id, Status::new(code));
        self.note_failure(outcome);
    }

    /// A live stream that is not recorded has one place only.
    pub(super) fn seek(&mut self, stream_id: u32) {
        let status =
            Status::new(StatusCode::SeekFailed).describe("A live stream cannot be sought.");
        let outcome = self.core.status(stream_id, status);
        self.note_failure(outcome);
    }

    /// Switches to another live stream. Streams of different encoders share no timestamps, so the switch is a cut: the new
    /// stream starts at its newest key frame.
    pub(super) fn play2(&mut self, stream_id: u32, parameters: Play2Parameters) {
        let to = parameters.stream_name.clone();
        let transition = Status::new(StatusCode::PlayTransition)
            .describe(format!("Transition to {to}."))
            .with("details", to.as_str())
            .with("reason", "NetStream.Transition.Success");
        let outcome = self.core.status(stream_id, transition);
        self.note_failure(outcome);
        self.play(PlayRequest {
            stream_id,
            name: parameters.stream_name,
            query: None,
            start: parameters.start,
            length: parameters.length,
            reset: PlayReset::Append,
            transaction: TransactionId::NONE,
        });
    }
}
