//! The task of one attachment: it finds the owner, and moves messages between its call, the core, and the sessions.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_media::name::{InstanceName, StreamName};
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Ask;
use headwater_proto::v1::attach_response::Response as Answer;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tracing::{Instrument as _, debug, info, warn};

use super::core::{Core, Turn};
use super::open::{Link, OpenError, message, open, open_message};
use super::{Attachment, Attachments, Hooks, Said};
use crate::application::objects::Objects;
use crate::upstream::Pause;

/// How long an owner may take no message although some wait, before the call is made anew. The watch on the node finds a dead node much
/// sooner: this is for a call that hangs on a node that lives.
const STALL_TIMEOUT: Duration = Duration::from_secs(4);

/// How long an owner that is left may take for what it still has to say.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often objects that nobody uses any more are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Messages of sessions taken before the other things are looked at again.
const MESSAGES_PER_TURN: usize = 64;

/// How a call ended.
enum End {
    /// Nobody needs it any more, and nobody can get hold of the attachment.
    Unused,
    /// The owner ended the instance.
    Ended,
    Moved(v1::Moved),
    Broken,
}

struct Attached {
    attachments: Attachments,
    name: InstanceName,
    key: StreamName,
    hooks: Arc<Hooks>,
    objects: Arc<Objects>,
    /// What is to be said of an object, and the call has not taken.
    of_object: Option<Ask>,
    /// When objects that nobody uses are looked for.
    sweep_at: Instant,
    said: mpsc::Receiver<Said>,
    core: Core,
    pause: Pause,
    /// Where the last owner said that the instance is.
    moved: Option<v1::Moved>,
    broken_at: Option<Instant>,
}

/// The task, which holds nothing of the attachment that it is for.
pub(super) fn run(
    attachments: Attachments,
    name: InstanceName,
    attachment: &Attachment,
    said: mpsc::Receiver<Said>,
) -> impl Future<Output = ()> + use<> {
    let number = attachment.number;
    let (hooks, objects) = (
        Arc::clone(&attachment.hooks),
        Arc::clone(&attachment.objects),
    );
    async move { hold(attachments, name, number, hooks, objects, said).await }
}

async fn hold(
    attachments: Attachments,
    name: InstanceName,
    number: u64,
    hooks: Arc<Hooks>,
    objects: Arc<Objects>,
    said: mpsc::Receiver<Said>,
) {
    let span = tracing::info_span!("attachment", instance = %name);
    let upstream = Arc::clone(&attachments.0.upstream);
    let meters = upstream.metrics.applications.clone();
    meters.attachments.inc();
    // A client is not refused because of a pause that is too short to find an owner in.
    let patience = Duration::from_millis(upstream.config.connect_wait_ms);
    let workers = attachments.0.told.len();
    let attached = Attached {
        key: name.key(),
        core: Core::new(number, workers, patience, meters.clone(), Instant::now()),
        attachments,
        name,
        hooks,
        objects,
        of_object: None,
        sweep_at: Instant::now() + SWEEP_INTERVAL,
        said,
        pause: Pause::new(),
        moved: None,
        broken_at: None,
    };
    attached.run().instrument(span).await;
    meters.attachments.dec();
}

impl Attached {
    async fn run(mut self) {
        loop {
            if !self.is_wanted() && self.idle().await {
                return;
            }
            // Boxed: it is large and over soon.
            let Some(mut link) = Box::pin(self.attach()).await else {
                continue;
            };
            match self.serve(&mut link).await {
                End::Unused => {
                    self.leave(link).await;
                    return;
                }
                End::Ended => {
                    info!("the application instance has ended");
                    self.leave(link).await;
                    self.detach_objects();
                }
                End::Moved(moved) => {
                    info!(from = %link.target.node, to = moved.owner, "the application instance moves");
                    self.leave(link).await;
                    self.moved = Some(moved);
                    self.broken().await;
                }
                End::Broken => {
                    self.attachments
                        .0
                        .upstream
                        .metrics
                        .applications
                        .broken
                        .inc();
                    self.broken().await;
                    let upstream = Arc::clone(&self.attachments.0.upstream);
                    let mut pause = std::mem::replace(&mut self.pause, Pause::new());
                    self.meanwhile(pause.wait(&upstream)).await;
                    self.pause = pause;
                }
            }
        }
    }

    /// Whether there is somebody or something that needs the owner.
    fn is_wanted(&self) -> bool {
        self.core.is_wanted() || !self.objects.is_idle()
    }

    fn detach_objects(&mut self) {
        self.of_object = None;
        self.objects.detached();
    }

    async fn broken(&mut self) {
        self.detach_objects();
        let now = Instant::now();
        self.broken_at.get_or_insert(now);
        self.core.broken(now);
        self.tell().await;
    }

    /// Waits until somebody comes. `true`: nobody did, and nobody can any more.
    async fn idle(&mut self) -> bool {
        let linger = self.attachments.0.upstream.config.linger();
        let draining = self.attachments.0.draining.clone();
        let objects = Arc::clone(&self.objects);
        while !self.is_wanted() {
            let ends = tokio::select! {
                said = self.said.recv() => {
                    self.take(said);
                    false
                }
                () = objects.wanted() => false,
                () = tokio::time::sleep(linger) => true,
                () = draining.cancelled() => true,
            };
            self.tell().await;
            if ends && !self.is_wanted() {
                if self.attachments.end_if_unused(&self.name, &self.said) {
                    return true;
                }
                // Held by a session that is about to say something, or by one that is about to leave.
                self.meanwhile(tokio::time::sleep(Duration::from_millis(20)))
                    .await;
            }
        }
        false
    }

    /// Finds the owner and opens a call. `None`: nobody wants it any more.
    async fn attach(&mut self) -> Option<Link> {
        let upstream = Arc::clone(&self.attachments.0.upstream);
        while self.is_wanted() {
            let target = match self.moved.take() {
                Some(moved) => upstream.named(&self.key, &moved),
                None => upstream.target(&self.key),
            };
            let opened = match target {
                Some(target) => {
                    let incarnation = self.attachments.0.incarnation;
                    let resumed = self.core.resumed_clients();
                    let ask = open_message(&upstream, &self.name, &target, incarnation, resumed);
                    let key = self.key.clone();
                    // Short, so that it is exported when the instance is attached and not when that is over.
                    let span = tracing::info_span!("attach", instance = %self.name);
                    let opening = open(&upstream, &key, target, ask).instrument(span);
                    self.meanwhile(opening).await
                }
                None => Err(OpenError::Broken),
            };
            match opened {
                Ok((link, opened)) => {
                    self.opened(&link, &opened);
                    return Some(link);
                }
                Err(error) => {
                    if let OpenError::Moved(moved) = error {
                        self.moved = Some(moved);
                    }
                    let mut pause = std::mem::replace(&mut self.pause, Pause::new());
                    self.meanwhile(pause.wait(&upstream)).await;
                    self.pause = pause;
                }
            }
        }
        None
    }

    fn opened(&mut self, link: &Link, opened: &v1::AttachOpened) {
        let hooks = opened.hooks.unwrap_or_default();
        self.hooks.set(&hooks);
        let resumed = self.core.resumed_clients();
        self.core.attached(&hooks);
        self.objects.attached();
        let meters = &self.attachments.0.upstream.metrics.applications;
        match self.broken_at.take() {
            Some(at) => {
                meters.attached_again(at.elapsed());
                info!(node = %link.target.node, epoch = opened.epoch, resumed, "attached to the application instance again");
            }
            None => {
                info!(node = %link.target.node, epoch = opened.epoch, "attached to the application instance");
            }
        }
    }

    /// Moves messages until the call ends.
    async fn serve(&mut self, link: &mut Link) -> End {
        let upstream = Arc::clone(&self.attachments.0.upstream);
        let draining = self.attachments.0.draining.clone();
        let mut lost = pin!(upstream.lost(&link.target.node));
        let mut stalled_at: Option<Instant> = None;
        let mut idle_at: Option<Instant> = None;
        let objects = Arc::clone(&self.objects);
        loop {
            self.tell().await;
            match self.send(link) {
                Ok(true) => stalled_at = None,
                Ok(false) => {
                    stalled_at.get_or_insert_with(|| Instant::now() + STALL_TIMEOUT);
                }
                Err(()) => return End::Broken,
            }
            let waits = self.core.has_requests() || self.of_object.is_some();
            if self.is_wanted() || waits {
                idle_at = None;
            } else {
                idle_at.get_or_insert_with(|| Instant::now() + upstream.config.linger());
            }
            let may_end = idle_at.is_some();
            tokio::select! {
                answer = link.responses.message() => match answer {
                    Ok(Some(answer)) => {
                        self.pause.reset();
                        match self.heard(answer) {
                            Some(Turn::Moved(moved)) => return End::Moved(moved),
                            Some(Turn::Ended) => {
                                self.tell().await;
                                return End::Ended;
                            }
                            None => {}
                        }
                    }
                    Ok(None) => {
                        info!(node = %link.target.node, "the owner of the application instance has ended the call");
                        return End::Broken;
                    }
                    Err(status) => {
                        info!(node = %link.target.node, %status, "the call to the application instance broke");
                        upstream.cluster.report_failure(&link.target.node);
                        return End::Broken;
                    }
                },
                said = self.said.recv(), if !self.core.is_full() => self.take(said),
                permit = link.requests.reserve(), if waits => {
                    // Dropped again: the top of the loop fills it.
                    if permit.is_err() {
                        return End::Broken;
                    }
                    stalled_at = None;
                }
                of_object = objects.next(), if self.of_object.is_none() => {
                    self.of_object = Some(of_object);
                }
                () = tokio::time::sleep_until(self.sweep_at) => self.sweep(),
                () = until(self.core.poll_timeout()) => self.core.handle_timeout(Instant::now()),
                () = &mut lost => {
                    info!(node = %link.target.node, "the owner of the application instance does not answer");
                    return End::Broken;
                }
                () = until(stalled_at), if waits => {
                    warn!(node = %link.target.node, "the owner of the application instance takes nothing");
                    return End::Broken;
                }
                () = until(idle_at) => {
                    if self.attachments.end_if_unused(&self.name, &self.said) {
                        return End::Unused;
                    }
                    idle_at = None;
                }
                () = draining.cancelled(), if may_end => {
                    if self.attachments.end_if_unused(&self.name, &self.said) {
                        return End::Unused;
                    }
                    self.meanwhile(tokio::time::sleep(Duration::from_millis(20))).await;
                }
            }
        }
    }

    fn heard(&mut self, answer: v1::AttachResponse) -> Option<Turn> {
        let answer = answer.response?;
        match &answer {
            Answer::ObjectState(_)
            | Answer::ObjectUpdate(_)
            | Answer::ObjectRefused(_)
            | Answer::ObjectWanted(_) => {
                self.objects.handle(answer);
                None
            }
            _ => self.core.heard(Instant::now(), answer),
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.sweep_at = now + SWEEP_INTERVAL;
        self.objects.sweep(now);
    }

    /// Gives the call what it takes. `false`: it takes no more, and something waits.
    fn send(&mut self, link: &Link) -> Result<bool, ()> {
        while self.core.has_requests() {
            match link.requests.try_reserve() {
                Ok(permit) => {
                    if let Some(request) = self.core.poll_request() {
                        permit.send(message(request));
                    }
                }
                Err(TrySendError::Full(())) => return Ok(false),
                Err(TrySendError::Closed(())) => return Err(()),
            }
        }
        while let Some(of_object) = self.of_object.take().or_else(|| self.objects.poll_next()) {
            match link.requests.try_reserve() {
                Ok(permit) => permit.send(message(of_object)),
                Err(TrySendError::Full(())) => {
                    self.of_object = Some(of_object);
                    return Ok(false);
                }
                Err(TrySendError::Closed(())) => return Err(()),
            }
        }
        Ok(true)
    }

    /// Ends a call in order: what waits goes, then the close; and what the owner still says is heard.
    async fn leave(&mut self, mut link: Link) {
        let leaving = async {
            while let Some(request) = self.core.poll_request() {
                if link.requests.send(message(request)).await.is_err() {
                    return;
                }
            }
            let close = message(Ask::Close(v1::AttachClose {}));
            if link.requests.send(close).await.is_err() {
                return;
            }
            drop(link.requests);
            while let Ok(Some(answer)) = link.responses.message().await {
                let _ = self.heard(answer);
                self.tell().await;
            }
        };
        if tokio::time::timeout(LEAVE_TIMEOUT, leaving).await.is_err() {
            debug!("the owner that is left did not end the call");
        }
    }

    /// Waits for something while sessions are listened to.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            self.tell().await;
            tokio::select! {
                outcome = &mut wait => return outcome,
                said = self.said.recv(), if !self.core.is_full() => self.take(said),
                () = tokio::time::sleep_until(self.sweep_at) => self.sweep(),
                () = until(self.core.poll_timeout()) => self.core.handle_timeout(Instant::now()),
            }
        }
    }

    /// Takes what sessions have said, this and some more.
    fn take(&mut self, said: Option<Said>) {
        let now = Instant::now();
        let mut next = said;
        for _ in 0..MESSAGES_PER_TURN {
            let Some(said) = next else {
                return;
            };
            self.core.said(now, said);
            if self.core.is_full() {
                return;
            }
            next = self.said.try_recv().ok();
        }
        if let Some(said) = next {
            self.core.said(now, said);
        }
    }

    /// Tells workers what has come for their clients.
    async fn tell(&mut self) {
        while let Some((worker, told)) = self.core.poll_told() {
            if let Some(port) = self.attachments.0.told.get(worker) {
                // An error means that the worker has ended, and its clients with it.
                let _ = port.send(told).await;
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
