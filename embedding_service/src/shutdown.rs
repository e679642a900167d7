//! The signals that ask the process to stop, and the one that asks it to read its files again. Those of Unix: what we keep on
//! disk asks for it too.

use std::future::Future;

use tokio::signal::unix::{self, Signal, SignalKind};

/// Comes with SIGTERM or Ctrl-C. A second signal while the process drains ends it at once. SIGHUP ends nothing, whether somebody
/// reads a file again or not: who sends it cannot know.
///
/// Listens from the call on, not only from the first poll: call it before telling anybody that the process runs. Needs
/// a runtime.
pub fn signal() -> impl Future<Output = ()> {
    let mut signals = Signals::listen();
    let hangups = hangups();
    async move {
        let _hangups = hangups;
        signals.received().await;
        tracing::info!("stopping; a second signal stops at once");
        tokio::spawn(async move {
            signals.received().await;
            std::process::exit(130);
        });
    }
}

/// SIGHUPs, which end the process no more once this is there. Needs a runtime.
pub struct Hangups {
    signal: Option<Signal>,
}

/// Listens for SIGHUP from the call on.
pub fn hangups() -> Hangups {
    Hangups { signal: listen(SignalKind::hangup()) }
}

impl Hangups {
    /// Comes with the next one.
    pub async fn next(&mut self) {
        next(&mut self.signal).await;
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    let refused = |error| tracing::warn!("signal {} cannot be listened for: {error}", kind.as_raw_value());
    unix::signal(kind).map_err(refused).ok()
}

struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    fn listen() -> Self {
        Self { terminate: listen(SignalKind::terminate()), interrupt: listen(SignalKind::interrupt()) }
    }

    async fn received(&mut self) {
        let Self { terminate, interrupt } = self;
        tokio::select! {
            () = next(terminate) => {}
            () = next(interrupt) => {}
        }
    }
}

/// Never where the signal cannot be listened for.
async fn next(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
