//! From a lost connection to an error.

use super::{DeviceError, Devices};

impl Devices {
    /// Runs what computes on these devices, and gives what it gives.
    ///
    /// Burn panics where it next needs the answer of a server that is gone, in whatever thread that
    /// is; and it could wait without end for a server that itself waits for one that is gone. With
    /// remote devices `work` therefore runs in a thread of its own, its panics caught, while the
    /// connections are watched. Where a connection ends, `work` has a few seconds to end too; then
    /// it is left behind.
    ///
    /// # Errors
    ///
    /// A server that was lost, which is told apart from the errors of `work` itself.
    #[cfg_attr(not(feature = "remote"), allow(clippy::unnecessary_wraps))]
    pub fn guard<R: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, E> + Send + 'static,
    ) -> Result<Result<R, E>, DeviceError> {
        #[cfg(feature = "remote")]
        if self.are_remote() {
            return watch::watch(&self.connections, work);
        }
        Ok(work())
    }
}

#[cfg(feature = "remote")]
mod watch {
    use std::any::Any;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::{Duration, Instant};

    use super::DeviceError;
    use crate::devices::remote::Connection;

    /// Time between two looks at the connections.
    const INTERVAL: Duration = Duration::from_millis(100);

    /// How long the work has to end once a connection has.
    const GRACE: Duration = Duration::from_secs(3);

    /// How long a connection may seem to live after work that failed for its end.
    const SETTLE: Duration = Duration::from_secs(1);

    pub(super) fn watch<R: Send + 'static, E: Send + 'static>(
        connections: &[Connection],
        work: impl FnOnce() -> Result<R, E> + Send + 'static,
    ) -> Result<Result<R, E>, DeviceError> {
        let (sender, end) = mpsc::channel();
        // As large a stack as the main thread's.
        let thread = std::thread::Builder::new().name("work".into()).stack_size(8 << 20);
        let started = thread.spawn(move || {
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        });
        started.expect("the system has a thread to give");
        let mut lost: Option<(Instant, DeviceError)> = None;
        let outcome = loop {
            match end.recv_timeout(INTERVAL) {
                Ok(outcome) => break outcome,
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the thread sends, whatever it does")
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if lost.is_none() {
                lost = find_lost(connections).map(|error| (Instant::now(), error));
            }
            if let Some((since, error)) = &lost
                && since.elapsed() >= GRACE
            {
                return Err(error.clone());
            }
        };
        if let Ok(Ok(result)) = outcome {
            return Ok(Ok(result));
        }
        // The work may have noticed first.
        let ended = Instant::now();
        let mut lost = lost.map(|(_, error)| error).or_else(|| find_lost(connections));
        while lost.is_none() && ended.elapsed() < SETTLE {
            std::thread::sleep(INTERVAL);
            lost = find_lost(connections);
        }
        match (lost, outcome) {
            (Some(error), _) => Err(error),
            (None, Ok(result)) => Ok(result),
            (None, Err(panic)) => {
                let servers: Vec<&str> = connections.iter().map(|c| c.address.as_str()).collect();
                let (servers, reason) = (servers.join(", "), message(&*panic));
                Err(DeviceError::Broken { servers, reason })
            }
        }
    }

    fn message(panic: &(dyn Any + Send)) -> String {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_string()
    }

    fn find_lost(connections: &[Connection]) -> Option<DeviceError> {
        let connection = connections.iter().find(|connection| connection.is_lost())?;
        Some(DeviceError::Lost { address: connection.address.clone() })
    }

    #[cfg(test)]
    mod tests {
        use std::net::TcpListener;

        use super::*;
        use crate::devices::remote::connections;

        /// Runs work that ends with `outcome`, or never, beside a server that is closed as soon as
        /// the work runs, or never.
        fn run(
            closes: bool,
            work: impl FnOnce() -> Result<u8, &'static str> + Send + 'static,
        ) -> (Result<Result<u8, &'static str>, DeviceError>, String) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("ws://{}", listener.local_addr().unwrap());
            let connections = connections(&[format!("remote:{address}").parse().unwrap()]).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let kept = (!closes).then_some(accepted);
            let outcome = watch(&connections, work);
            drop(kept);
            (outcome, address)
        }

        #[test]
        fn what_the_work_gives_is_given() {
            assert_eq!(run(false, || Ok(7)).0, Ok(Ok(7)));
            assert_eq!(run(false, || Err("its own")).0, Ok(Err("its own")));
            // What is done is done.
            assert_eq!(run(true, || Ok(7)).0, Ok(Ok(7)));
        }

        #[test]
        fn a_lost_server_is_named_whatever_the_work_does() {
            let lost = |address| Err(DeviceError::Lost { address });
            let (outcome, address) = run(true, || Err("a consequence"));
            assert_eq!(outcome, lost(address));
            let (outcome, address) = run(true, || panic!("a consequence"));
            assert_eq!(outcome, lost(address));
            let (outcome, address) = run(true, || {
                loop {
                    std::thread::park();
                }
            });
            assert_eq!(outcome, lost(address));
        }

        #[test]
        fn a_panic_with_all_servers_there_is_told() {
            let (outcome, address) = run(false, || panic!("no such operation"));
            let reason = "no such operation".to_string();
            assert_eq!(outcome, Err(DeviceError::Broken { servers: address, reason }));
        }
    }
}
