//! `connect` with the full client, for transports that the light one does not speak.
//!
//! Each thread begins its share of the connections, and no more are open on it at once than are its share of that.

use std::sync::Arc;
use std::time::Duration;

use headwater_media::frame::FrameKind;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::status::{Level, StatusCode};
use parking_lot::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::client::{ClientError, ConnectOptions, Connection, Statuses};
use crate::clock::now_ns;
use crate::lane::Lane;
use crate::measure::Latencies;
use crate::report::{ConnectSummary, Spread, Tally};
use crate::swarm::{ArrivalCounts, ArrivalOptions};
use crate::target::Target;

/// How long a client that was let in may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Default)]
struct Found {
    counts: ArrivalCounts,
    most_in_flight: u64,
    behind: Duration,
    bytes: u64,
    setup: Latencies,
    first_frame: Latencies,
    endings: Tally,
    statuses: Tally,
    last_end: Option<Instant>,
}

/// What all connections have in common.
#[derive(Debug)]
struct Plan {
    targets: Vec<Target>,
    connect: ConnectOptions,
    options: ArrivalOptions,
    started: Instant,
    found: Mutex<Found>,
}

/// Clients that come and go. Dropping it cuts off those that are left.
pub(super) struct FullArrivals {
    plan: Arc<Plan>,
    tasks: Vec<JoinHandle<()>>,
}

impl FullArrivals {
    /// Begins, on these threads.
    pub(super) fn start(
        targets: Vec<Target>,
        connect: ConnectOptions,
        options: ArrivalOptions,
        lanes: &[Lane],
    ) -> Self {
        let plan = Arc::new(Plan {
            targets,
            connect,
            options,
            started: Instant::now(),
            found: Mutex::default(),
        });
        let threads = lanes.len().max(1);
        let tasks = lanes.iter().enumerate().map(|(thread, lane)| {
            let plan = Arc::clone(&plan);
            lane.enter(|| tokio::spawn(plan.drive(thread, threads)))
        });
        Self {
            tasks: tasks.collect(),
            plan,
        }
    }

    pub(super) fn counts(&self) -> ArrivalCounts {
        self.plan.found.lock().counts
    }

    pub(super) fn has_ended(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    pub(super) fn report(&self) -> ConnectSummary {
        let found = self.plan.found.lock();
        let until = found.last_end.filter(|_| self.has_ended());
        let until = until.unwrap_or_else(Instant::now);
        let seconds = until.duration_since(self.plan.started).as_secs_f64();
        let options = &self.plan.options;
        ConnectSummary {
            connections: options.count,
            started: found.counts.started,
            done: found.counts.done,
            failed: found.counts.failed,
            seconds,
            asked_per_s: options.rate,
            achieved_per_s: if seconds > 0.0 {
                found.counts.done as f64 / seconds
            } else {
                0.0
            },
            most_in_flight: found.most_in_flight,
            setup: Spread::from(&found.setup.report()),
            first_frame: Spread::from(&found.first_frame.report()),
            most_behind_ms: found.behind.as_secs_f64() * 1e3,
            bytes: found.bytes,
            endings: found.endings.sorted(),
            statuses: found.statuses.sorted(),
        }
    }
}

impl Drop for FullArrivals {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Plan {
    async fn drive(self: Arc<Self>, thread: usize, threads: usize) {
        let options = &self.options;
        // What does not divide goes to the first threads.
        let rest = usize::from(thread < options.in_flight % threads);
        let most = (options.in_flight / threads + rest).max(1);
        let mut open = JoinSet::new();
        for number in (thread as u64..options.count).step_by(threads) {
            if options.rate > 0 {
                let after = number as f64 / f64::from(options.rate);
                tokio::time::sleep_until(self.started + Duration::from_secs_f64(after)).await;
            }
            while open.len() >= most {
                open.join_next().await;
            }
            while open.try_join_next().is_some() {}
            if options.rate > 0 {
                let after = Duration::from_secs_f64(number as f64 / f64::from(options.rate));
                let mut found = self.found.lock();
                let behind = self.started.elapsed().saturating_sub(after);
                found.behind = found.behind.max(behind);
            }
            open.spawn(Arc::clone(&self).connect(number));
        }
        while open.join_next().await.is_some() {}
    }

    async fn connect(self: Arc<Self>, number: u64) {
        let begun = now_ns();
        {
            let mut found = self.found.lock();
            found.counts.started += 1;
            found.counts.in_flight += 1;
            found.most_in_flight = found.most_in_flight.max(found.counts.in_flight);
        }
        let mut statuses = Statuses::default();
        let outcome = self.reach_the_goal(number, begun, &mut statuses).await;
        let mut found = self.found.lock();
        found.counts.in_flight = found.counts.in_flight.saturating_sub(1);
        found.last_end = Some(Instant::now());
        match outcome {
            Ok(bytes) => {
                found.counts.done += 1;
                found.bytes = found.bytes.saturating_add(bytes);
            }
            Err(error) => {
                found.counts.failed += 1;
                found.endings.add(&error.to_string());
            }
        }
        for status in statuses.seen() {
            found.statuses.add(&status.code);
        }
    }

    /// Connects, plays until the goal is reached, and leaves. Gives the bytes that came.
    async fn reach_the_goal(
        &self,
        number: u64,
        begun: u64,
        statuses: &mut Statuses,
    ) -> Result<u64, ClientError> {
        let place = usize::try_from(number).unwrap_or(0) % self.targets.len().max(1);
        let target = self.targets.get(place).ok_or(ClientError::Closed)?;
        let mut connection = Connection::open(target, &self.connect).await?;
        let stream = connection.play(&target.stream, self.options.buffer).await?;
        let goal = tokio::time::timeout(
            self.options.timeout,
            self.watch(&mut connection, begun, statuses),
        );
        goal.await.unwrap_or(Err(ClientError::Timeout {
            what: "the answer to play",
            after: self.options.timeout,
        }))?;
        let bytes = connection.bytes_in();
        connection.close(Some(stream), None, FAREWELL).await;
        Ok(bytes)
    }

    async fn watch(
        &self,
        connection: &mut Connection,
        begun: u64,
        statuses: &mut Statuses,
    ) -> Result<(), ClientError> {
        loop {
            let failure = connection.turn().await.err();
            while let Some(event) = connection.poll_event() {
                statuses.note(&event, self.started.elapsed());
                match event {
                    ClientEvent::Status { status, .. } if status.level == Level::Error => {
                        return Err(ClientError::refused(status));
                    }
                    ClientEvent::Status { status, .. }
                        if status.code == StatusCode::PlayStart.as_str() =>
                    {
                        self.found.lock().setup.record(begun, now_ns());
                        if !self.options.first_frame {
                            return Ok(());
                        }
                    }
                    ClientEvent::Media { frame, .. }
                        if frame.kind != FrameKind::Data && self.options.first_frame =>
                    {
                        self.found.lock().first_frame.record(begun, now_ns());
                        return Ok(());
                    }
                    _ => {}
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
    }
}
