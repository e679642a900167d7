//! The signals that ask the process to stop, and the one that asks it to read its files again.

use std::future::Future;

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
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

/// Listens for SIGHUP from the call on.
pub fn hangups() -> Hangups {
    Hangups {
        #[cfg(unix)]
        signal: listen(tokio::signal::unix::SignalKind::hangup()),
    }
}

impl Hangups {
    /// Comes with the next one; never where the system has none.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        next(&mut self.signal).await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
fn listen(kind: tokio::signal::unix::SignalKind) -> Option<tokio::signal::unix::Signal> {
    let refused = |error| tracing::warn!("signal {} cannot be listened for: {error}", kind.as_raw_value());
    tokio::signal::unix::signal(kind).map_err(refused).ok()
}

#[cfg(unix)]
struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::SignalKind;

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
#[cfg(unix)]
async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn received(&mut self) {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!("Ctrl-C cannot be listened for: {error}");
            std::future::pending::<()>().await;
        }
    }
}
