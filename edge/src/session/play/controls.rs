//! What a client that plays asks for besides: pause, seek, another stream in place of this one, what it receives, how much it buffers.

use super::*;

impl Session {
    pub(in crate::session) fn pause(&mut self, stream_id: u32, paused: bool, at: f64) {
        let at = whole(at);
        let live = self
            .connection
            .borrow_mut()
            .play(stream_id)
            .and_then(|play| play.last_sent());
        self.with_player(stream_id, |player, now| player.pause(now, paused, at, live));
    }

    pub(in crate::session) fn seek(&mut self, stream_id: u32, to: f64) {
        self.with_player(stream_id, |player, _| player.seek(whole(to)));
    }

    pub(in crate::session) async fn play2(&mut self, stream_id: u32, parameters: Play2Parameters) {
        if !self.may_play(stream_id, &parameters.stream_name, false) {
            return;
        }
        let wish = Wish::Play2(stream_id, parameters);
        if let Some(Wish::Play2(_, parameters)) = self.ask_application(wish).await {
            self.begin_play2(stream_id, &parameters, &parameters.stream_name);
        }
    }

    pub(in crate::session) fn begin_play2(
        &mut self,
        stream_id: u32,
        parameters: &Play2Parameters,
        stream: &str,
    ) {
        let name = &parameters.stream_name;
        let Some(mut entry) = self.entry(stream_id, name, stream, false) else {
            return;
        };
        entry.start = parameters.start;
        entry.length = parameters.length;
        let transition = Transition::parse(&parameters.transition);
        let old = parameters.old_stream_name.as_deref();
        let offset = parameters.offset.map(|seconds| whole(seconds * 1_000.0));
        if entry.start == PlayStart::LiveOrRecorded
            && self.connection.borrow_mut().play(stream_id).is_some()
            && self.is_live_here(&entry.stream)
        {
            // From one live stream to another that is known: nothing to be found out.
            entry.start = PlayStart::Live;
        }
        self.with_player(stream_id, |player, now| {
            player.transition(now, transition, entry, old, offset);
        });
    }

    pub(in crate::session) fn receive_audio(&mut self, stream_id: u32, wanted: bool) {
        self.with_play(stream_id, |play| play.set_audio(wanted));
        if let Some(player) = self.connection.borrow_mut().player(stream_id) {
            player.set_audio(wanted);
        }
    }

    pub(in crate::session) fn receive_video(&mut self, stream_id: u32, wanted: bool) {
        self.with_play(stream_id, |play| play.set_video(wanted));
        if let Some(player) = self.connection.borrow_mut().player(stream_id) {
            player.set_video(wanted);
        }
    }

    pub(in crate::session) fn buffer_length(&mut self, stream_id: u32, milliseconds: u32) {
        let buffer = Duration::from_millis(milliseconds.into());
        let has_room = self.buffers.len() < MAX_BUFFERS;
        match self.buffers.iter_mut().find(|(id, _)| *id == stream_id) {
            Some((_, known)) => *known = buffer,
            None if has_room => {
                self.buffers.reserve_exact(1);
                self.buffers.push((stream_id, buffer));
            }
            None => {}
        }
        let now = self.now();
        if let Some(player) = self.connection.borrow_mut().player(stream_id) {
            player.set_buffer(now, buffer);
        }
    }
}
