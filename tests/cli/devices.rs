//! Training on several devices, also of other machines.

use crate::support::{LSTM, Said, Workspace};

#[test]
fn devices_that_do_not_go_together_are_refused_before_anything_runs() {
    let workspace = Workspace::new();
    let two = r#"train.devices=["cuda:0", "cuda:1"]"#;
    let remote = r#"train.devices=["remote:ws://a:3000", "remote:ws://b:3000"]"#;
    for (sets, expected) in [
        (&[r#"train.devices=["abacus"]"#][..], "abacus: no such backend"),
        (&[r#"train.devices=["remote:a:3000"]"#], "expected remote:ws://HOST:PORT"),
        (&["train.devices=[]"], "train.devices names no device"),
        (
            &[r#"train.devices=["cuda", "cuda:0"]"#],
            "train.devices.1 names cuda:0 for a second time",
        ),
        (
            &[r#"train.devices=["flex", "cuda:0"]"#],
            "train.devices.1 is cuda:0 beside flex; all devices must be of one backend",
        ),
        (
            &[r#"train.devices=["remote:ws://a:3000", "flex"]"#],
            "train.devices.1 is flex beside remote:ws://a:3000",
        ),
        (&["train.strategy=multi-device"], "train.strategy needs devices = [...] beside it"),
        (&["train.strategy=ddp"], "train.strategy needs devices = [...] beside it"),
        (&["train.strategy=many"], "expected one of `single`, `multi-device`, `ddp`"),
        (&[two, "train.strategy=single"], "train.strategy is \"single\" with 2 devices"),
        (
            &[r#"train.devices=["flex"]"#, "train.strategy=multi-device"],
            "train.strategy needs two devices or more; there is one",
        ),
        (
            &[remote, "train.strategy=ddp"],
            "train.strategy is \"ddp\" on remote:ws://a:3000; Burn reduces gradients between the \
             CUDA devices of one machine only; use \"multi-device\"",
        ),
        (
            &["train.optimizer-placement=sharded"],
            "train.optimizer-placement belongs to the strategy \"multi-device\"",
        ),
        (
            &[two, "train.strategy=ddp", "train.optimizer-placement=sharded"],
            "train.optimizer-placement belongs to the strategy \"multi-device\"",
        ),
        (
            &[two, "train.quantized.batch-size=1"],
            "train.quantized.batch-size is 1; 2 devices share a batch",
        ),
    ] {
        workspace.train(LSTM, "run", sets).code(2).says([expected]);
        assert!(!workspace.path("run").exists(), "{sets:?}");
    }
}

#[cfg(not(feature = "remote"))]
#[test]
fn a_build_without_remote_devices_says_so() {
    let workspace = Workspace::new();
    let device = r#"train.devices=["remote:ws://a:3000"]"#;
    let expected = "remote:ws://a:3000: this build has no backend `remote`; rebuild with \
                    `--features remote`";
    workspace.train(LSTM, "run", &[device]).code(2).says([expected]);
    assert!(!workspace.path("run").exists());
    workspace.write("config.toml", LSTM);
    let args = ["evaluate", "config.toml", "--device", "remote:ws://a:3000"];
    workspace.ausn(args).code(2).says([expected]);
}

#[cfg(feature = "remote")]
mod remote {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::process::{Child, Stdio};
    use std::thread;

    use serde_json::Value;

    use crate::support::{BINARY, LSTM, Said, Training, Workspace};

    /// `ausn serve` in the background. Killed with the test that started it.
    struct Server {
        child: Child,
        /// `ws://127.0.0.1:PORT`.
        address: String,
    }

    impl Server {
        fn start(workspace: &Workspace) -> Self {
            Self::listen(workspace, "127.0.0.1:0", None)
        }

        fn listen(workspace: &Workspace, listen: &str, token: Option<&str>) -> Self {
            let mut command = workspace.process(BINARY);
            command.args(["serve", "--listen", listen]).stdout(Stdio::piped());
            command.stderr(Stdio::null());
            command.envs(token.map(|token| ("AUSN_REMOTE_TOKEN", token)));
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            let address = line.trim().rsplit(' ').next().unwrap().to_string();
            assert!(line.starts_with("serving ") && address.starts_with("ws://"), "{line}");
            Self { child, address }
        }

        fn name(&self) -> String {
            format!("remote:{}", self.address)
        }

        fn kill(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }

        /// Another process at the same address.
        fn restart(&mut self, workspace: &Workspace) {
            self.kill();
            let listen = self.address.trim_start_matches("ws://").to_string();
            *self = Self::listen(workspace, &listen, None);
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn devices(servers: &[&Server]) -> String {
        let names: Vec<String> = servers.iter().map(|server| server.name()).collect();
        format!("train.devices={names:?}")
    }

    /// The training loss of every step of a stage.
    fn losses(workspace: &Workspace, run: &str, stage: &str) -> Vec<f64> {
        let metrics = workspace.metrics(run);
        let steps = metrics.iter().filter(|e| e["stage"] == stage && e["step"].is_u64());
        steps.map(|entry| entry["loss"].as_f64().expect("a number")).collect()
    }

    /// The losses of every epoch and split of a stage.
    fn epochs(workspace: &Workspace, run: &str, stage: &str) -> Vec<f64> {
        let metrics = workspace.metrics(run);
        let ends = metrics.iter().filter(|e| e["stage"] == stage && e["split"].is_string());
        ends.map(|entry| entry["loss"].as_f64().expect("a number")).collect()
    }

    #[track_caller]
    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        assert!(!a.is_empty());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "entry {i}: {a} and {b}");
        }
    }

    #[test]
    fn two_servers_train_as_one_device_does_with_the_joined_batch() {
        let workspace = Workspace::new();
        // 1437 examples: 11 steps of 121 and one of 106, so that the parts are not all of one size.
        let batches = ["train.batch-size=121"];
        workspace.train(LSTM, "one", &batches).success();
        let (first, second) = (Server::start(&workspace), Server::start(&workspace));
        let two = devices(&[&first, &second]);
        for (run, placement) in [("first", "first-device"), ("sharded", "sharded")] {
            let placement = format!("train.optimizer-placement={placement}");
            let sets = [&batches[..], &[&two, &placement]].concat();
            workspace.train(LSTM, run, &sets).success();
            for stage in ["float", "quantized"] {
                close(&losses(&workspace, "one", stage), &losses(&workspace, run, stage), 1e-3);
                close(&epochs(&workspace, "one", stage), &epochs(&workspace, run, stage), 1e-3);
            }
        }
        let score = |device: &str| {
            let args = ["evaluate", "first", "--json", "--device", device];
            let found = workspace.ausn(args).success().json();
            found[0]["splits"][0]["value"].as_f64().expect("a number")
        };
        assert_eq!(score("flex"), score(&second.name()));
    }

    #[test]
    fn a_killed_server_is_named_and_the_run_resumes_to_the_same_result() {
        let workspace = Workspace::new();
        let (mut first, mut second) = (Server::start(&workspace), Server::start(&workspace));
        let devices = devices(&[&first, &second]);
        let sets = ["train.epochs=2", "train.batch-size=96", &devices];
        workspace.train(LSTM, "whole", &sets).success();
        for (stage, of_first) in [("float", false), ("quantized", true)] {
            let mut training = Training::start(&workspace, stage, &sets);
            training.wait_for(stage, 2);
            let server = if of_first { &mut first } else { &mut second };
            server.kill();
            let address = server.address.clone();
            let (status, message) = training.wait();
            assert_eq!(status.code(), Some(1), "{message}");
            let expected = format!("error: lost the connection to the server at {address}");
            assert!(message.contains(&expected), "{expected} is not in: {message}");
            let hint = format!("resume with: ausn train --resume {stage}");
            assert!(message.contains(&hint), "{hint} is not in: {message}");
            assert_eq!(workspace.history(stage, stage).len(), 1, "not lost in its second epoch");
            assert_eq!(workspace.temporary_files(stage), [""; 0], "{stage}");

            // Still gone.
            let name = format!("cannot connect to remote:{address}");
            workspace.resume(stage).code(1).says([&name]);
            server.restart(&workspace);
            workspace.resume(stage).success();
            let (whole, resumed) = (workspace.result("whole"), workspace.result(stage));
            assert_eq!(whole.0, resumed.0, "{stage}: the metric");
            assert!(whole.1 == resumed.1, "{stage}: the weights are others");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named_before_anything_runs() {
        let workspace = Workspace::new();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let name = format!("remote:ws://{free}");
        let expected = format!("error: cannot connect to {name}: Connection refused");
        let set = format!("train.devices=[{name:?}]");
        workspace.train(LSTM, "run", &[&set]).code(1).says([&expected]);
        assert!(!workspace.path("run").exists());
        for command in ["evaluate", "plan"] {
            let args = [command, "config.toml", "--device", &name];
            workspace.ausn(args).code(1).says([&expected]);
        }
    }

    #[test]
    fn what_is_no_server_is_named() {
        let workspace = Workspace::new();
        workspace.write("config.toml", LSTM);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("remote:ws://{}", listener.local_addr().unwrap());
        // It takes what comes, and hangs up.
        thread::spawn(move || listener.incoming().for_each(drop));
        let expected = format!("error: cannot connect to {name}: ");
        workspace.ausn(["plan", "config.toml", "--device", &name]).code(1).says([expected]);
    }

    #[test]
    fn a_server_serves_those_that_know_its_token() {
        let workspace = Workspace::new();
        workspace.write("config.toml", LSTM);
        let server = Server::listen(&workspace, "127.0.0.1:0", Some("a secret"));
        let plan = |token: Option<&str>| {
            let mut command = workspace.process(BINARY);
            command.args(["plan", "config.toml", "--json", "--device", &server.name()]);
            command.envs(token.map(|token| ("AUSN_REMOTE_TOKEN", token)));
            crate::support::run(command)
        };
        let rows: Value = plan(Some("a secret")).success().json();
        assert!(!rows.as_array().unwrap().is_empty());
        for token in [None, Some("another")] {
            plan(token).code(1).says(["the server's authorizer rejected the credential"]);
        }
        // A device that the server does not have.
        let second = format!("{}/1", server.name());
        let mut command = workspace.process(BINARY);
        command.args(["plan", "config.toml", "--device", &second]);
        command.env("AUSN_REMOTE_TOKEN", "a secret");
        crate::support::run(command).code(1).says(["the server hosts only 1 device(s)"]);
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let workspace = Workspace::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let expected = format!("cannot serve on {address}: Address already in use");
        workspace.ausn(["serve", "--listen", &address]).code(1).says([expected]);
        for (device, expected) in [
            ("remote:ws://a:3000", "a remote device cannot be served again"),
            ("abacus", "--device abacus: no such backend"),
        ] {
            workspace.ausn(["serve", "--device", device]).code(2).says([expected]);
        }
        let args = ["serve", "--device", "flex", "--device", "cuda:0"];
        workspace.ausn(args).code(2).says(["a server's devices must be of one backend"]);
    }
}
