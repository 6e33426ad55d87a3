//! Whatever fails and whoever dies: what was told to be durable is there, once and in order.
//!
//! A world has one recording, a store, some machines with a journal each, and a publisher's edge that keeps what is not durable and
//! hands it to whichever machine is the owner, as the real one does. Sequences of events are random; in the end everything heals,
//! the owner finishes, and what is read must be what was published.

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::{ArchiveError, Archives, LeftOpen, Writer};
use super::disk::TestDisk;
use super::support::*;
use headwater_media::frame::{Frame, Offset};

#[derive(Clone, Debug)]
enum Event {
    /// The publisher sends some more frames.
    Publish(u64),
    /// A new epoch begins.
    Reconnect,
    /// A machine syncs its writer, if it has one.
    Sync(usize),
    /// What happens to the next puts.
    Faults(Vec<Fault>),
    /// Time goes on, milliseconds.
    Wait(u64),
    /// The journal's disk of a machine has room for so many bytes.
    Room(usize, Option<usize>),
    FailSyncs(usize, u32),
    FailTruncations(usize, u32),
    /// The process dies, and comes back. Of the journal's unsynced bytes some are left.
    Crash(usize, u8),
    /// The publisher goes to this machine, which takes the recording over.
    Own(usize),
    /// As a crash, and the publisher's edge dies at the same time, and other machines for good.
    Disaster(usize, u8),
    /// A machine lets go of its writer.
    Drop(usize),
    Finish(usize),
}

fn events(machines: usize) -> impl Strategy<Value = Vec<Event>> {
    let machine = 0..machines;
    let fault = prop_oneof![
        Just(Fault::Works),
        Just(Fault::FailsBefore),
        Just(Fault::FailsAfter),
        Just(Fault::Hangs),
        Just(Fault::Full),
    ];
    let event = prop_oneof![
        6 => (1..60_u64).prop_map(Event::Publish),
        1 => Just(Event::Reconnect),
        8 => machine.clone().prop_map(Event::Sync),
        2 => prop::collection::vec(fault, 1..4).prop_map(Event::Faults),
        2 => (1..3_000_u64).prop_map(Event::Wait),
        1 => (machine.clone(), prop::option::of(0..3_000_usize)).prop_map(|(m, r)| Event::Room(m, r)),
        1 => (machine.clone(), 0..3_u32).prop_map(|(m, n)| Event::FailSyncs(m, n)),
        1 => (machine.clone(), 0..2_u32).prop_map(|(m, n)| Event::FailTruncations(m, n)),
        2 => (machine.clone(), any::<u8>()).prop_map(|(m, k)| Event::Crash(m, k)),
        2 => machine.clone().prop_map(Event::Own),
        1 => (machine.clone(), any::<u8>()).prop_map(|(m, k)| Event::Disaster(m, k)),
        1 => machine.clone().prop_map(Event::Drop),
        1 => machine.prop_map(Event::Finish),
    ];
    prop::collection::vec(event, 1..60)
}

struct Machine {
    folder: TempDir,
    disk: TestDisk,
    archives: Archives,
    writer: Option<Writer>,
}

impl Machine {
    fn new(store: &Store, durable_locally: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = TestDisk::default();
        Self {
            archives: archives_on(store, folder.path(), durable_locally, disk.clone()),
            folder,
            disk,
            writer: None,
        }
    }

    fn crash(&mut self, store: &Store, durable_locally: bool, keep: u8) {
        self.archives.inner.journal.kill();
        self.writer = None;
        self.disk.lose_tails(keep);
        self.disk = TestDisk::default();
        self.archives = archives_on(
            store,
            self.folder.path(),
            durable_locally,
            self.disk.clone(),
        );
    }
}

struct World {
    store: Store,
    durable_locally: bool,
    machines: Vec<Machine>,
    generation: u64,
    owner: usize,
    /// All that was published and may be in the recording.
    published: Vec<Frame>,
    epoch: u64,
    sequence: u64,
    durable: Offset,
}

impl World {
    async fn new(machines: usize, durable_locally: bool) -> Self {
        let store = Store::default();
        let mut machines: Vec<Machine> = (0..machines)
            .map(|_| Machine::new(&store, durable_locally))
            .collect();
        let writer = machines[0].archives.create(&name("a"), "0").await.unwrap();
        let generation = writer.generation();
        machines[0].writer = Some(writer);
        Self {
            store,
            durable_locally,
            machines,
            generation,
            owner: 0,
            published: Vec::new(),
            epoch: 1,
            sequence: 0,
            durable: Offset::default(),
        }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Publish(count) => {
                for _ in 0..count {
                    let start = 1_000 * self.epoch;
                    self.published.push(frame(self.epoch, self.sequence, start));
                    self.sequence += 1;
                }
                self.hand_over();
            }
            Event::Reconnect => {
                self.epoch += 1;
                self.sequence = 0;
            }
            Event::Sync(machine) => self.sync(machine).await,
            Event::Faults(faults) => self.store.fault(faults),
            Event::Wait(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            Event::Room(machine, room) => self.machines[machine].disk.set_room(room),
            Event::FailSyncs(machine, count) => self.machines[machine].disk.fail_syncs(count),
            Event::FailTruncations(machine, count) => {
                self.machines[machine].disk.fail_truncations(count);
            }
            Event::Crash(machine, keep) => {
                self.machines[machine].crash(&self.store, self.durable_locally, keep);
                if machine == self.owner {
                    self.own(machine).await;
                }
            }
            Event::Own(machine) => self.own(machine).await,
            Event::Disaster(machine, keep) => {
                self.machines[machine].crash(&self.store, self.durable_locally, keep);
                if machine == self.owner {
                    // What others have in their journals would be found again, later.
                    for other in (0..self.machines.len()).filter(|other| *other != machine) {
                        self.machines[other] = Machine::new(&self.store, self.durable_locally);
                    }
                    self.lose_edge().await;
                }
            }
            Event::Drop(machine) => self.machines[machine].writer = None,
            Event::Finish(machine) => {
                if let Some(writer) = &mut self.machines[machine].writer {
                    let finished = writer.finish().await.map(|_| writer.durable());
                    self.note(machine, finished);
                }
            }
        }
    }

    /// The publisher's edge gives the owner what that does not have.
    fn hand_over(&mut self) {
        let from = self.published.partition_point(|f| f.offset < self.durable);
        let Some(writer) = &mut self.machines[self.owner].writer else {
            return;
        };
        match writer.append(&self.published[from..]) {
            Ok(()) | Err(ArchiveError::Behind { .. } | ArchiveError::Fenced { .. }) => {}
            // It was finished.
            Err(ArchiveError::Refused("the recording is finished")) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn sync(&mut self, machine: usize) {
        let Some(writer) = &mut self.machines[machine].writer else {
            return;
        };
        let synced = writer.sync().await;
        self.note(machine, synced);
        // The put goes on.
        tokio::task::yield_now().await;
    }

    fn note(&mut self, machine: usize, result: Result<Option<Offset>, ArchiveError>) {
        match result {
            Ok(_)
            | Err(
                ArchiveError::Full(_)
                | ArchiveError::Unavailable(_)
                | ArchiveError::Fenced { .. }
                | ArchiveError::Refused("the recording is finished"),
            ) => {}
            Err(error) => panic!("{error:?}"),
        }
        if machine == self.owner
            && let Some(writer) = &self.machines[machine].writer
            && let Some(durable) = writer.durable()
        {
            self.durable = self.durable.max(durable);
        }
    }

    async fn own(&mut self, machine: usize) {
        self.take_over(machine).await;
        self.hand_over();
    }

    async fn take_over(&mut self, machine: usize) {
        self.owner = machine;
        let machine = &mut self.machines[machine];
        machine.writer = None;
        let owner = format!("{}", self.owner);
        let taken = machine
            .archives
            .take_over(&name("a"), self.generation, &owner)
            .await;
        match taken {
            Ok(writer) => {
                let next = writer.next_offset().unwrap_or_default();
                let lost: Vec<Offset> = (self.published.iter().map(|frame| frame.offset))
                    .filter(|offset| *offset < self.durable && *offset >= next)
                    .collect();
                assert!(lost.is_empty(), "{lost:?} were durable");
                machine.writer = Some(writer);
            }
            Err(ArchiveError::Full(_) | ArchiveError::Unavailable(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What nobody has any more was never published.
    async fn lose_edge(&mut self) {
        self.store.heal();
        self.machines[self.owner].disk.set_room(None);
        self.machines[self.owner].disk.fail_syncs(0);
        self.take_over(self.owner).await;
        let writer = self.machines[self.owner].writer.as_ref().unwrap();
        let next = writer.next_offset().unwrap_or_default();
        self.published.retain(|frame| frame.offset < next);
        self.epoch += 1;
        self.sequence = 0;
    }

    async fn end(mut self) {
        self.store.heal();
        for machine in &mut self.machines {
            machine.disk.set_room(None);
            machine.disk.fail_syncs(0);
            machine.disk.fail_truncations(0);
        }
        // More than once, as a put may hang yet.
        for _ in 0..8 {
            self.own(self.owner).await;
            if self.machines[self.owner].writer.is_some() {
                break;
            }
        }
        let mut rounds = 0;
        loop {
            self.hand_over();
            let writer = self.machines[self.owner].writer.as_mut().unwrap();
            let next = writer.next_offset();
            if next == self.published.last().map(|last| last.offset.next()) {
                break;
            }
            self.sync(self.owner).await;
            rounds += 1;
            assert!(rounds < 1_000, "stuck at {next:?}");
        }
        let writer = self.machines[self.owner].writer.as_mut().unwrap();
        let reader = writer.finish().await.unwrap();
        let read = read_all(&reader).await;
        let differ = read.iter().zip(&self.published).position(|(a, b)| a != b);
        assert!(
            read.len() == self.published.len() && differ.is_none(),
            "{} frames are read, {} were published; the first other one is {:?}",
            read.len(),
            self.published.len(),
            differ.map(|at| (read[at].offset, self.published[at].offset)),
        );
        check_pieces(&reader, &self.published).await;
        let archives = &self.machines[self.owner].archives;
        let cold = archives.open(&name("a"), self.generation).await.unwrap();
        assert!(cold.summary().is_complete);
        assert_eq!(cold.summary(), reader.summary());
        check_pieces(&cold, &self.published).await;
        // The stale ones find out.
        for (number, machine) in self.machines.iter_mut().enumerate() {
            if number == self.owner {
                continue;
            }
            if let Some(writer) = &mut machine.writer {
                let mut finished = writer.finish().await;
                // A put may hang or fail yet.
                for _ in 0..5 {
                    if matches!(
                        finished,
                        Err(ArchiveError::Unavailable(_) | ArchiveError::Full(_))
                    ) {
                        finished = writer.finish().await;
                    }
                }
                let is_stale = matches!(
                    finished,
                    Err(ArchiveError::Fenced { .. } | ArchiveError::Refused(_))
                );
                assert!(is_stale || writer.held_bytes() == 0, "{finished:?}");
            }
        }
        let left = self.machines[self.owner].archives.left_open();
        assert_eq!(left, Vec::<LeftOpen>::new());
    }
}

fn run(machines: usize, durable_locally: bool, events: Vec<Event>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(machines, durable_locally).await;
        for event in events {
            world.happen(event).await;
        }
        world.end().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn one_machine_with_its_own_store_loses_nothing(events in events(1)) {
        run(1, true, events);
    }

    #[test]
    fn machines_with_a_shared_store_lose_nothing(events in events(3)) {
        run(3, false, events);
    }
}
