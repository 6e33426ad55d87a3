//! Clients of applications: they call methods, and write and read shared objects.
//!
//! A member is a socket and a [`ClientSession`](headwater_rtmp::client::ClientSession) without tasks and locks: one thread turns all of
//! its members in one loop, as in [`swarm`](crate::swarm), but takes whole messages, of which there are few and all matter.
//!
//! | room | what it holds |
//! |---|---|
//! | `member` | one client: its socket and its session |
//! | `hall` | the clients of one thread, and the loop that turns them |
//! | [`callers`] | calls, and their answers |
//! | [`objects`] | changes of shared objects: who sees them when, and whether all see the same in the end |
//!
//! # Memory
//! Some 2 kB for a member that idles, and what the kernel holds for its socket.
//!
//! # What it does not do
//! No TLS and no RTMFP. A member whose connection ends does not come back.

pub mod callers;
mod hall;
mod member;
pub mod objects;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_amf::Value;
use headwater_rtmp::client::{ClientConfig, ConnectParameters};
use headwater_rtmp::command::ObjectEncoding;
use headwater_rtmp::url::Scheme;

use crate::affinity;
use crate::swarm::MAX_SWARM_THREADS;
use crate::target::Target;
use hall::{Duty, Hall};

/// What an argument of `connect` has in the place of the member's number.
const NUMBER: &str = "{n}";

/// In which encoding members speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encodings {
    /// AMF0, messages of types 20 and 19.
    #[default]
    Amf0,
    /// AMF3, messages of types 17 and 16.
    Amf3,
    /// One and the other in turn.
    Both,
}

impl Encodings {
    const fn of(self, number: usize) -> ObjectEncoding {
        match self {
            Self::Amf0 => ObjectEncoding::Amf0,
            Self::Amf3 => ObjectEncoding::Amf3,
            Self::Both if number.is_multiple_of(2) => ObjectEncoding::Amf0,
            Self::Both => ObjectEncoding::Amf3,
        }
    }
}

/// How members come.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// Applications, in turn.
    pub targets: Vec<Target>,
    /// How many members.
    pub count: usize,
    /// Members that begin to connect each second; 0: all at once.
    pub ramp: u32,
    /// Threads, 1 to [`MAX_SWARM_THREADS`] (else the nearest); members are dealt to them in turn.
    pub threads: usize,
    /// Processors that the threads may run on; empty for those of the thread that starts them.
    pub cpus: Vec<usize>,
    /// In which encoding they speak.
    pub encodings: Encodings,
    /// Arguments of `connect`: strings, with the member's number for `{n}`.
    pub arguments: Vec<String>,
    /// How long connecting may take.
    pub timeout: Duration,
}

impl MemberOptions {
    /// 10 members on one thread, 500 each second, AMF0, 10 s to connect.
    #[must_use]
    pub const fn new(targets: Vec<Target>) -> Self {
        Self {
            targets,
            count: 10,
            ramp: 500,
            threads: 1,
            cpus: Vec::new(),
            encodings: Encodings::Amf0,
            arguments: Vec::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// How many threads there will be.
    fn thread_count(&self) -> usize {
        self.threads
            .clamp(1, MAX_SWARM_THREADS)
            .min(self.count.max(1))
    }
}

/// Why members cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// Nowhere to go.
    #[error("there is no application to connect to")]
    NoTarget,
    /// A name means nothing here.
    #[error("cannot resolve {host}: {cause}")]
    Resolve {
        /// The host.
        host: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Members speak plain RTMP only.
    #[error("{url}: callers and users of shared objects speak plain rtmp only")]
    Scheme {
        /// The application.
        url: String,
    },
    /// The record of confirmed changes cannot be written, or makes no sense.
    #[error("{path}: {cause}")]
    Record {
        /// The file.
        path: String,
        /// What is wrong.
        cause: io::Error,
    },
    /// The system gives no thread or event queue, or not the processors that were asked for.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Where members of one application connect.
#[derive(Debug)]
struct Place {
    address: SocketAddr,
    parameters: ConnectParameters,
}

/// What all threads of one run know.
#[derive(Debug)]
struct Plan {
    options: MemberOptions,
    places: Vec<Place>,
    config: Arc<ClientConfig>,
    /// When the run began, on the harness's clock.
    started: u64,
}

impl Plan {
    fn new(options: MemberOptions, started: u64) -> Result<Self, MemberError> {
        let mut places = Vec::with_capacity(options.targets.len());
        for target in &options.targets {
            let url = &target.url;
            if url.scheme != Scheme::Rtmp {
                let url = url.to_string();
                return Err(MemberError::Scheme { url });
            }
            let failed = |cause| MemberError::Resolve {
                host: url.host.clone(),
                cause,
            };
            let found = (url.host.as_str(), url.port_or_default()).to_socket_addrs();
            let address = found.map_err(failed)?.next();
            places.push(Place {
                address: address.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?,
                parameters: ConnectParameters::new(url),
            });
        }
        if places.is_empty() {
            return Err(MemberError::NoTarget);
        }
        let config = ClientConfig {
            handshake_timeout: options.timeout,
            connect_timeout: options.timeout,
            ..ClientConfig::default()
        };
        Ok(Self {
            options,
            places,
            config: Arc::new(config),
            started,
        })
    }

    /// Where the member with this number goes, and what it says there.
    fn place(&self, number: usize) -> Option<(SocketAddr, ConnectParameters)> {
        let place = self.places.get(number % self.places.len().max(1))?;
        let text = number.to_string();
        let arguments = self.options.arguments.iter();
        let parameters = ConnectParameters {
            object_encoding: self.options.encodings.of(number),
            arguments: arguments
                .map(|argument| Value::from(argument.replace(NUMBER, &text)))
                .collect(),
            ..place.parameters.clone()
        };
        Some((place.address, parameters))
    }
}

/// Where a run stands: one number, which only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    /// Members connect, and make ready.
    Joining,
    /// They do what they came for.
    Running,
    /// They begin nothing more, and wait for what is under way.
    Settling,
    /// They leave.
    Over,
}

/// What others look at while threads run.
#[derive(Debug, Default)]
struct Progress {
    stage: AtomicU8,
    /// Members that are ready.
    ready: AtomicU64,
    /// Members whose connection failed or ended.
    ended: AtomicU64,
    /// What was asked for: calls, changes, sends.
    asked: AtomicU64,
    /// What of it was answered.
    answered: AtomicU64,
    /// When running began, on the harness's clock.
    running_since: AtomicU64,
    /// When it ended.
    running_until: AtomicU64,
}

impl Progress {
    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Joining,
            1 => Stage::Running,
            2 => Stage::Settling,
            _ => Stage::Over,
        }
    }

    fn enter(&self, stage: Stage, now: u64) {
        match stage {
            Stage::Running => self.running_since.store(now, Ordering::Release),
            Stage::Settling => self.running_until.store(now, Ordering::Release),
            Stage::Joining | Stage::Over => {}
        }
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// How long members did what they came for.
    fn ran_for(&self) -> Duration {
        let since = self.running_since.load(Ordering::Acquire);
        let until = self.running_until.load(Ordering::Acquire);
        Duration::from_nanos(until.saturating_sub(since))
    }
}

/// The figures of a progress line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Members that are ready.
    pub ready: u64,
    /// Members whose connection failed or ended.
    pub ended: u64,
    /// What they asked for: calls, changes, messages.
    pub asked: u64,
    /// What of it was answered or confirmed.
    pub answered: u64,
}

/// The threads of one run. Dropping it ends them.
#[derive(Debug)]
struct Threads<R> {
    progress: Arc<Progress>,
    threads: Vec<(Sender<Sender<R>>, JoinHandle<()>)>,
}

/// How long a thread may take for a report.
const PATIENCE: Duration = Duration::from_secs(10);

impl<R: Send + 'static> Threads<R> {
    /// Starts so many, each with the duty that it is given.
    fn start<D: Duty<Report = R> + Send + 'static>(
        name: &str,
        plan: &Arc<Plan>,
        mut duty: impl FnMut(usize, Arc<Progress>) -> D,
    ) -> Result<Self, MemberError> {
        let progress = Arc::new(Progress::default());
        let count = plan.options.thread_count();
        let mut threads = Vec::with_capacity(count);
        for thread in 0..count {
            let (ask, asked): (Sender<Sender<R>>, Receiver<Sender<R>>) = channel();
            let mut hall = Hall::new(Arc::clone(plan), Arc::clone(&progress), thread, count)?;
            let mut duty = duty(thread, Arc::clone(&progress));
            let cpus = plan.options.cpus.clone();
            let (bound, is_bound) = channel();
            let handle = std::thread::Builder::new()
                .name(format!("{name}-{thread}"))
                .spawn(move || {
                    let binding = match cpus.as_slice() {
                        [] => Ok(()),
                        cpus => affinity::bind(cpus),
                    };
                    let is_fine = binding.is_ok();
                    let _heard = bound.send(binding);
                    if is_fine {
                        // The event queue can only fail if it is misused; then the thread answers no more, which shows.
                        let _failed = hall.run(&mut duty, &asked);
                    }
                })?;
            threads.push((ask, handle));
            is_bound
                .recv()
                .unwrap_or_else(|_| Err(io::Error::other("the thread is gone")))?;
        }
        Ok(Self { progress, threads })
    }

    fn counts(&self) -> MemberCounts {
        let figure = |figure: &AtomicU64| figure.load(Ordering::Acquire);
        // In this order, so that nothing that was answered is missing among what was asked.
        let answered = figure(&self.progress.answered);
        MemberCounts {
            ready: figure(&self.progress.ready),
            ended: figure(&self.progress.ended),
            asked: figure(&self.progress.asked),
            answered,
        }
    }

    /// What each thread found. Those that do not answer are left out.
    fn reports(&self) -> Vec<R> {
        let (answer, answers) = channel();
        let asked = self.threads.iter();
        let asked = asked.filter(|(ask, _)| ask.send(answer.clone()).is_ok());
        let asked = asked.count();
        drop(answer);
        (0..asked)
            .map_while(|_| answers.recv_timeout(PATIENCE).ok())
            .collect()
    }
}

impl<R> Drop for Threads<R> {
    fn drop(&mut self) {
        self.progress
            .stage
            .store(Stage::Over as u8, Ordering::Release);
        for (_, thread) in self.threads.drain(..) {
            // A panic there was told by the thread itself.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_say_their_number_and_take_places_and_encodings_in_turn() {
        let targets = ["rtmp://127.0.0.1:1/a/one", "rtmp://127.0.0.1:2/a/two"];
        let targets = targets.map(|url| Target::with_name(url, "").unwrap());
        let options = MemberOptions {
            encodings: Encodings::Both,
            arguments: vec!["user{n}".to_owned(), "key".to_owned()],
            ..MemberOptions::new(targets.to_vec())
        };
        let plan = Plan::new(options, 0).unwrap();
        let (address, parameters) = plan.place(3).unwrap();
        assert_eq!((address.port(), parameters.app.as_str()), (2, "a/two"));
        assert_eq!(parameters.object_encoding, ObjectEncoding::Amf3);
        assert_eq!(
            parameters.arguments,
            [Value::from("user3"), Value::from("key")]
        );
        assert_eq!(plan.place(4).unwrap().0.port(), 1);
    }

    #[test]
    fn only_plain_rtmp_is_spoken() {
        for url in ["rtmps://h/a", "rtmfp://h/a"] {
            let options = MemberOptions::new(vec![Target::with_name(url, "").unwrap()]);
            let error = Plan::new(options, 0).unwrap_err();
            assert!(matches!(error, MemberError::Scheme { .. }), "{error}");
        }
        let nowhere = Plan::new(MemberOptions::new(Vec::new()), 0);
        assert!(matches!(nowhere, Err(MemberError::NoTarget)));
    }
}
