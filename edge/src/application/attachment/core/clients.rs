//! Clients of an instance: how they come, are let in, and leave.

use super::*;

impl Core {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        worker: usize,
        connect: Box<v1::ClientConnect>,
        patience: Duration,
    ) {
        let decide_by = now + self.patience + patience;
        let due = match self.link {
            Link::Attached { .. } => decide_by,
            // Of its own, and not what is left to those who wait already.
            Link::Detached { .. } => now + self.patience,
        };
        let number = connect.client;
        self.deadlines.insert((due, Due::Client(number)));
        let client = Client {
            worker,
            connect,
            pending: Some(Pending { due, decide_by }),
        };
        self.clients.insert(number, client);
        self.meters.clients.inc();
        if self.is_attached() {
            self.push(Queued::Client(number));
        }
    }

    pub(super) fn gone(&mut self, number: u64) {
        let Some(client) = self.remove(number) else {
            return;
        };
        drop(client);
        let mine = (number, 0)..=(number, u64::MAX);
        let mine: Vec<Key> = self.waiting.range(mine).map(|(key, _)| *key).collect();
        for key in mine {
            match self.waiting.remove(&key) {
                Some(Waiting::Ask { due, .. }) => {
                    self.deadlines.remove(&(due, Due::Ask(key)));
                }
                // Not wanted any more, and said all the same: it may have been its last will.
                Some(Waiting::Call { is_sent: false }) => {
                    let calls = self.queue.iter_mut().filter_map(|queued| match queued {
                        Queued::Call(call) => Some(call),
                        _ => None,
                    });
                    for call in calls.filter(|call| (call.client, call.call) == key) {
                        call.call = 0;
                    }
                }
                Some(Waiting::Call { is_sent: true }) | None => {}
            }
        }
        if self.is_attached() {
            let gone = v1::ClientDisconnect { client: number };
            self.plain(Request::Disconnect(gone));
        } else {
            // The next owner will not have heard of it.
            let of_it =
                |queued: &Queued| matches!(queued, Queued::Call(call) if call.client == number);
            self.queue.retain(|queued| !of_it(queued));
            self.queued_bytes = self.queue.iter().map(Queued::bytes).sum();
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Client> {
        let client = self.clients.remove(&number)?;
        self.meters.clients.dec();
        match &client.pending {
            Some(pending) => {
                self.deadlines.remove(&(pending.due, Due::Client(number)));
            }
            None => {
                if let Some(inside) = self.inside.get_mut(client.worker) {
                    *inside = inside.saturating_sub(1);
                }
            }
        }
        Some(client)
    }

    pub(super) fn decided(&mut self, decided: v1::ConnectDecision) {
        let number = decided.client;
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let Some(decision) = decided.decision else {
            return;
        };
        let Some(pending) = &client.pending else {
            // Said again after a break: whoever refuses it ends it.
            return;
        };
        let due = (pending.due, Due::Client(number));
        match decision {
            Decision::Accepted(accepted) => {
                self.deadlines.remove(&due);
                client.pending = None;
                client.connect.arguments = Bytes::new();
                if let Some(properties) = &mut client.connect.properties
                    && properties.object.len() > MAX_OBJECT
                {
                    properties.object = Bytes::new();
                }
                client.connect.resumed = Some(accepted.grant.clone().unwrap_or_default());
                if let Some(inside) = self.inside.get_mut(client.worker) {
                    *inside += 1;
                }
                self.tell(number, What::Accepted(accepted));
            }
            Decision::Rejected(rejected) => {
                self.tell(number, What::Refused(Refusal::Rejected(rejected)));
                self.remove(number);
            }
        }
    }

    /// A client that is pending has waited long enough.
    pub(super) fn give_up(&mut self, number: u64) {
        let refusal = if self.is_attached() {
            Refusal::NoAnswer
        } else {
            Refusal::NoOwner
        };
        self.tell(number, What::Refused(refusal));
        // It hears of nothing any more, and the owner hears that it has left.
        self.gone(number);
    }

    pub(super) fn ended(&mut self, now: Instant, ended: &v1::InstanceEnded) {
        for (worker, inside) in self.inside.iter().enumerate() {
            if *inside > 0 {
                let told = self.message(To::All, What::Ended(ended.clone()));
                self.told.push_back((worker, told));
            }
        }
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            if self
                .clients
                .get(&number)
                .is_some_and(|it| it.pending.is_some())
            {
                let rejected = v1::ConnectRejected {
                    description: ended.description.clone(),
                    code: ended.code.clone(),
                    ..v1::ConnectRejected::default()
                };
                self.tell(number, What::Refused(Refusal::Rejected(rejected)));
            }
            self.remove(number);
        }
        self.waiting.clear();
        self.deadlines.clear();
        self.queue.clear();
        self.queued_bytes = 0;
        self.link = Link::Detached {
            until: Some(now + self.patience),
        };
    }
}
