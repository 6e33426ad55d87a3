//! How an append finds its owner: at first, again after a break, and when the stream moves.

use super::*;

impl Appender {
    /// Finds the first owner. `None`: refused, or the client left.
    pub(super) async fn open_first(&mut self) -> Option<(Link, Publication)> {
        // Short, so that it is exported when publishing begins and not hours later.
        let span = tracing::info_span!("publish", stream = %self.request.name);
        let events = self.events.clone();
        let opening = async {
            let mut pause = Pause::new();
            let mut followed: Option<v1::Moved> = None;
            loop {
                let target = match followed.take() {
                    Some(moved) => self.upstream.named(&self.request.name, &moved),
                    None => self.upstream.target(&self.request.name),
                };
                let opened = match target {
                    Some(target) => self.open(target, None, OPEN_TIMEOUT).await,
                    None => Err(OpenError::Broken),
                };
                match opened {
                    Ok(opened) => return Ok(opened),
                    Err(OpenError::Rejected(rejected)) => return Err(rejected),
                    Err(OpenError::Moved(moved)) => {
                        followed = Some(moved);
                        pause.wait(&self.upstream).await;
                    }
                    Err(OpenError::Broken) => pause.wait(&self.upstream).await,
                }
            }
        };
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(FIRST_OPEN_TIMEOUT, opening.instrument(span)) => outcome,
            () = events.closed() => return None,
        };
        let refusal = match outcome {
            Ok(Ok((link, accepted))) => {
                info!(node = %link.target.node, epoch = accepted.epoch, "publishing");
                let _ = self.events.send(PublishEvent::Accepted);
                let limits = Limits {
                    window_ms: self.upstream.config.window_ms,
                    bytes: self.upstream.config.window_bytes,
                };
                let mode = self.request.mode;
                return Some((link, Publication::new(limits, mode, &accepted)));
            }
            Ok(Err(rejected)) => match rejected.reason() {
                v1::RejectReason::Busy | v1::RejectReason::Stale => {
                    Refusal::Busy(rejected.description)
                }
                _ => Refusal::Denied(rejected.description),
            },
            Err(_) => Refusal::NoOrigin,
        };
        info!(?refusal, "publishing was refused");
        let _ = self.events.send(PublishEvent::Refused(refusal));
        None
    }

    /// Opens at `target`, then closes here: readers follow when they have every frame that was sent here.
    pub(super) async fn hand_over(
        &mut self,
        link: &mut Link,
        publication: &mut Publication,
        target: Option<Target>,
    ) -> bool {
        let Some(target) = target.filter(|target| target.node != link.target.node) else {
            return false;
        };
        publication.hold();
        let opened = self.open_meanwhile(target, publication, MOVE_TIMEOUT).await;
        let Ok((opened, accepted)) = opened else {
            return false;
        };
        info!(from = %link.target.node, to = %opened.target.node, "the stream moves");
        let old = std::mem::replace(link, opened);
        publication.resumed(accepted.next_sequence);
        let close = v1::AppendClose {
            reason: v1::CloseReason::Moved.into(),
            moved: Some(v1::Moved {
                owner: link.target.node.to_string(),
                address: String::new(),
                ring_version: self.upstream.cluster.view().ring_version(),
            }),
        };
        // The call must stay until the close has arrived: dropping it would reset it, close message and all.
        tokio::spawn(finish(old, close));
        true
    }

    /// Finds an owner again and brings it up to date. `None`: the stream is over.
    pub(super) async fn reopen(
        &mut self,
        publication: &mut Publication,
        pause: &mut Pause,
    ) -> Option<Link> {
        let mut followed: Option<v1::Moved> = None;
        let mut end: Option<Instant> = None;
        loop {
            if self.media.is_closed() && self.media.is_empty() {
                // The client left meanwhile. The owner gets what is still here, if it turns up soon.
                let end = if publication.is_recorded() {
                    self.give_up()
                } else {
                    *end.get_or_insert_with(|| Instant::now() + CLOSE_TIMEOUT)
                };
                if Instant::now() >= end {
                    return None;
                }
            }
            let target = match followed.take() {
                Some(moved) => self.upstream.named(&self.request.name, &moved),
                None => self.upstream.target(&self.request.name),
            };
            let opened = match target {
                Some(target) => self.open_meanwhile(target, publication, OPEN_TIMEOUT).await,
                None => Err(OpenError::Broken),
            };
            match opened {
                Ok((link, accepted)) => {
                    info!(node = %link.target.node, next = accepted.next_sequence, "publishing goes on");
                    publication.resumed(accepted.next_sequence);
                    self.upstream.metrics.resumptions.inc();
                    return Some(link);
                }
                Err(OpenError::Rejected(rejected)) => {
                    info!(reason = ?rejected.reason(), rejected.description, "publishing cannot go on");
                    let _ = self
                        .events
                        .send(PublishEvent::Stopped(rejected.description));
                    return None;
                }
                Err(OpenError::Moved(moved)) => {
                    followed = Some(moved);
                    self.wait_meanwhile(publication, pause).await;
                }
                Err(OpenError::Broken) => self.wait_meanwhile(publication, pause).await,
            }
        }
    }

    /// Opens with the publication's window, taking media meanwhile: the client must not notice.
    async fn open_meanwhile(
        &mut self,
        target: Target,
        publication: &mut Publication,
        timeout: Duration,
    ) -> Result<(Link, v1::AppendAccepted), OpenError> {
        let resume = publication.resume();
        let call = call(
            Arc::clone(&self.upstream),
            open_message(
                &self.upstream,
                &self.request,
                self.id,
                &target,
                Some(resume),
            ),
            self.request.name.clone(),
            target,
            timeout,
        );
        self.meanwhile(call, publication).await
    }

    pub(super) async fn wait_meanwhile(
        &mut self,
        publication: &mut Publication,
        pause: &mut Pause,
    ) {
        let upstream = Arc::clone(&self.upstream);
        self.meanwhile(pause.wait(&upstream), publication).await;
    }

    /// Waits for something while the client's media goes into the window.
    async fn meanwhile<T>(
        &mut self,
        wait: impl Future<Output = T>,
        publication: &mut Publication,
    ) -> T {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                outcome = &mut wait => return outcome,
                Some(message) = self.media.recv() => {
                    self.take(message, publication);
                    self.count_lost(publication);
                }
            }
        }
    }

    async fn open(
        &self,
        target: Target,
        resume: Option<(v1::Offset, Vec<v1::Frame>)>,
        timeout: Duration,
    ) -> Result<(Link, v1::AppendAccepted), OpenError> {
        let open = open_message(&self.upstream, &self.request, self.id, &target, resume);
        let upstream = Arc::clone(&self.upstream);
        call(upstream, open, self.request.name.clone(), target, timeout).await
    }
}
