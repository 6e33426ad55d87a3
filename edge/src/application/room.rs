//! What comes over attachments for the clients of one worker.
//!
//! A message may be for many clients: it comes here once, and is put before each of them. What they get alike is decoded once, and written
//! once for each of the two encodings. Nothing here waits for a client; a session for which too much waits ends (see `session::notes`).

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use headwater_amf::Value;
use headwater_rtmp::command::{Command, ObjectEncoding};
use headwater_rtmp::message::Message;
use tokio::sync::mpsc;

use super::attachment::{Called, To, Told, What};
use super::values;
use crate::session::{Note, Teller};

/// Messages put before clients before the worker's other tasks have their turn.
const MESSAGES_PER_TURN: usize = 32;

/// The clients of one worker, by attachment and number.
#[derive(Default)]
pub(crate) struct Rooms(RefCell<HashMap<u64, HashMap<u64, Member>>>);

struct Member {
    teller: Teller,
    /// It is let in, and hears what is said to all.
    is_inside: bool,
}

/// A method of clients that is called, as the clients of a worker share it.
pub(crate) struct Call {
    pub(crate) called: Called,
    amf0: OnceCell<Option<Message>>,
    amf3: OnceCell<Option<Message>>,
}

impl Call {
    fn new(called: Called) -> Self {
        Self {
            called,
            amf0: OnceCell::new(),
            amf3: OnceCell::new(),
        }
    }

    /// The arguments for a client with this encoding. `None`: they make no sense.
    pub(crate) fn arguments(&self, encoding: ObjectEncoding) -> Option<Vec<Value>> {
        values::decode(&self.called.arguments, encoding)
    }

    /// The whole command, where no answer is wanted.
    pub(crate) fn notice(&self, encoding: ObjectEncoding) -> Option<&Message> {
        let cell = match encoding {
            ObjectEncoding::Amf0 => &self.amf0,
            ObjectEncoding::Amf3 => &self.amf3,
        };
        let message = cell.get_or_init(|| {
            let command = Command::notice(&self.called.name, self.arguments(encoding)?);
            command.to_message(encoding, 0).ok()
        });
        message.as_ref()
    }
}

impl Rooms {
    /// A client waits to be let in.
    pub(crate) fn enter(&self, attachment: u64, client: u64, teller: Teller) {
        let member = Member {
            teller,
            is_inside: false,
        };
        let mut rooms = self.0.borrow_mut();
        rooms.entry(attachment).or_default().insert(client, member);
    }

    pub(crate) fn leave(&self, attachment: u64, client: u64) {
        let mut rooms = self.0.borrow_mut();
        if let Some(room) = rooms.get_mut(&attachment) {
            room.remove(&client);
            if room.is_empty() {
                rooms.remove(&attachment);
            }
        }
    }

    /// Takes what comes for as long as the process lives.
    pub(crate) async fn serve(self: Rc<Self>, mut told: mpsc::Receiver<Told>) {
        let mut turn = 0;
        while let Some(told) = told.recv().await {
            self.take(told);
            turn += 1;
            if turn == MESSAGES_PER_TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&self, told: Told) {
        let mut rooms = self.0.borrow_mut();
        // Gone meanwhile.
        let Some(room) = rooms.get_mut(&told.attachment) else {
            return;
        };
        match told.what {
            What::Call(called) => {
                let call = Rc::new(Call::new(called));
                tell(room, &told.to, || Note::Called(Rc::clone(&call)));
            }
            what => {
                if let (What::Accepted(_), To::Some(clients)) = (&what, &told.to) {
                    for client in clients {
                        if let Some(member) = room.get_mut(client) {
                            member.is_inside = true;
                        }
                    }
                }
                tell(room, &told.to, || Note::Application(Box::new(what.clone())));
            }
        }
    }
}

fn tell(room: &HashMap<u64, Member>, to: &To, note: impl Fn() -> Note) {
    match to {
        To::All => {
            for member in room.values().filter(|member| member.is_inside) {
                member.teller.tell_bounded(note());
            }
        }
        To::Some(clients) => {
            for member in clients.iter().filter_map(|client| room.get(client)) {
                member.teller.tell_bounded(note());
            }
        }
    }
}
