//! The owner, its store, and the reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::client::{Map, Sent};
use super::{EDGES, ToEdge, ToOwner, World, master_limits};
use crate::master::{Applied, Greeting, Keeping, Master, Meta, Outcome, Row, Rows};
use crate::object::{EdgeIncarnation, Operation, State, Update, Version};

/// What the owner has accepted, in order: to be written, then to be told.
pub(super) struct Accepted {
    pub(super) rows: Option<Rows>,
    /// The edge, its call, and what it is told.
    pub(super) told: Vec<(usize, u32, ToEdge)>,
    /// Requests and sends of the reference that are durable with it.
    pub(super) requests: usize,
}

/// A request that was applied.
pub(super) struct Done {
    pub(super) edge: EdgeIncarnation,
    pub(super) number: u64,
    pub(super) operations: Arc<[Operation]>,
    pub(super) version: Version,
}

#[derive(Default)]
pub(super) struct Store {
    pub(super) rows: BTreeMap<String, Row>,
    pub(super) meta: Option<Meta>,
}

impl Store {
    pub(super) fn write(&mut self, rows: Rows) {
        if rows.clear {
            self.rows.clear();
        }
        for name in rows.delete {
            self.rows.remove(&*name);
        }
        for row in rows.put {
            let (Row::Slot { name, .. } | Row::Removed { name, .. }) = &row;
            self.rows.insert(name.to_string(), row);
        }
        self.meta = Some(rows.meta);
    }
}

impl World {
    pub(super) fn arrive_at_owner(&mut self, edge: usize) {
        let Some(message) = self.edges[edge].up.pop_front() else {
            return;
        };
        match message {
            ToOwner::Use(epoch, version) => {
                self.edges[edge].using = false;
                self.edges[edge].said = (epoch, version);
                self.greet(edge);
            }
            ToOwner::State(piece) => {
                let whole = self.edges[edge].assembly.push(piece).expect("fits");
                if let Some(state) = whole {
                    self.adopt(state);
                    self.greet(edge);
                }
            }
            ToOwner::Request(request) => {
                let incarnation = self.edges[edge].incarnation;
                let outcome = self
                    .master
                    .apply(incarnation, request.number, &request.operations);
                match outcome {
                    Ok(Outcome::Applied(applied)) => {
                        let done = Done {
                            edge: incarnation,
                            number: request.number,
                            operations: request.operations,
                            version: applied.update.version,
                        };
                        self.applied(done, applied);
                    }
                    Ok(Outcome::Duplicate) => {
                        let is_it = |done: &&Done| {
                            (done.edge, done.number) == (incarnation, request.number)
                        };
                        let held = self.done.iter().find(is_it);
                        assert!(held.is_some() || self.uncertain, "applied before");
                        let (number, operations) = (request.number, &request.operations);
                        let repeated = self.master.repeat(incarnation, number, operations);
                        if let Some(update) = repeated {
                            let told = self.tell_all(&update);
                            self.accept(None, told);
                        }
                    }
                    Err(refusal) => {
                        let told = self.tell(edge, ToEdge::Refused(request.number, refusal));
                        self.accept(None, vec![told]);
                    }
                }
            }
        }
    }

    /// The server's own change.
    pub(super) fn own(&mut self, choice: u8) {
        let operations = self.operations(choice, false);
        if let Ok(applied) = self.master.apply_own(&operations) {
            let done = Done {
                edge: EdgeIncarnation(0),
                number: self.next_send,
                operations: operations.into(),
                version: applied.update.version,
            };
            self.next_send += 1;
            self.applied(done, applied);
        }
    }

    fn applied(&mut self, done: Done, applied: Applied) {
        let twice = |held: &&Done| (held.edge, held.number) == (done.edge, done.number);
        assert!(self.uncertain || !self.done.iter().any(|held| twice(&held)));
        run(&mut self.map, &mut self.sends, &done);
        self.done.push(done);
        let told = self.tell_all(&applied.update);
        let kept = self.keeping != Keeping::Temporary;
        assert_eq!(kept, applied.rows != Rows::default());
        self.accept(kept.then_some(applied.rows), told);
    }

    fn greet(&mut self, edge: usize) {
        let (epoch, version) = self.edges[edge].said;
        let mut told = Vec::new();
        match self.master.greet(epoch, version) {
            Greeting::State(state) => {
                self.edges[edge].using = true;
                for piece in state.chunks(70) {
                    told.push(self.tell(edge, ToEdge::State(piece)));
                }
            }
            Greeting::Wanted => told.push(self.tell(edge, ToEdge::Wanted)),
        }
        self.accept(None, told);
    }

    fn adopt(&mut self, state: State) {
        let adopted = self.master.adopt(state);
        let mut told = Vec::new();
        if let Some(since) = adopted.since {
            for edge in (0..EDGES).filter(|edge| self.edges[*edge].using) {
                for piece in self.master.state_since(since).chunks(90) {
                    told.push(self.tell(edge, ToEdge::State(piece)));
                }
            }
        }
        // From here on the reference is what the mirrors have made of it.
        self.map = self
            .master
            .slots()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        self.accept(adopted.rows, told);
    }

    fn tell(&self, edge: usize, message: ToEdge) -> (usize, u32, ToEdge) {
        (edge, self.edges[edge].call, message)
    }

    fn tell_all(&self, update: &Update) -> Vec<(usize, u32, ToEdge)> {
        (0..EDGES)
            .filter(|edge| self.edges[*edge].using)
            .map(|edge| self.tell(edge, ToEdge::Update(update.clone())))
            .collect()
    }

    fn accept(&mut self, rows: Option<Rows>, told: Vec<(usize, u32, ToEdge)>) {
        let mut accepted = Accepted {
            rows,
            told,
            requests: self.done.len(),
        };
        if self.keeping != Keeping::Durable {
            self.publish(std::mem::take(&mut accepted.told));
        }
        self.journal.push_back(accepted);
    }

    /// The oldest of what was accepted becomes durable.
    pub(super) fn flush(&mut self) {
        if let Some(accepted) = self.journal.pop_front() {
            if let Some(rows) = accepted.rows {
                self.store.write(rows);
            }
            self.durable = accepted.requests;
            self.publish(accepted.told);
        }
    }

    fn publish(&mut self, told: Vec<(usize, u32, ToEdge)>) {
        for (edge, call, message) in told {
            let edge = &mut self.edges[edge];
            if edge.attached && edge.call == call {
                edge.down.push_back(message);
            }
        }
    }

    pub(super) fn fail_over(&mut self) {
        let attached: Vec<usize> = (0..EDGES)
            .filter(|edge| self.edges[*edge].attached)
            .collect();
        for edge in &attached {
            self.edges[*edge].detach();
        }
        self.journal.clear();
        self.epoch.0 += 1;
        let (keeping, epoch) = (self.keeping, self.epoch);
        self.master = match &self.store.meta {
            Some(meta) => {
                let rows = self.store.rows.values().cloned();
                Master::load(keeping, epoch, master_limits(), meta, rows)
            }
            None => Master::new(keeping, epoch, master_limits()),
        };
        if keeping == Keeping::Durable {
            self.done.truncate(self.durable);
            self.map.clear();
            self.sends.clear();
            for done in &self.done {
                run(&mut self.map, &mut self.sends, done);
            }
        } else {
            self.uncertain = true;
            for sent in &mut self.sends {
                sent.map = None;
            }
            self.map = self
                .master
                .slots()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect();
        }
        for edge in attached {
            self.attach(edge);
        }
    }
}

/// Runs a request on the reference, as it was asked for.
fn run(map: &mut Map, sends: &mut Vec<Sent>, done: &Done) {
    for operation in done.operations.iter() {
        match operation {
            Operation::Set { name, value } => drop(map.insert(name.to_string(), value.clone())),
            Operation::Remove { name } => drop(map.remove(&**name)),
            Operation::Clear => map.clear(),
            Operation::Send { arguments } => {
                let values = arguments.decode(headwater_amf::Limits::default()).unwrap();
                sends.push(Sent {
                    number: values[1].as_number().unwrap() as u64,
                    version: done.version,
                    map: Some(map.clone()),
                });
            }
        }
    }
}
