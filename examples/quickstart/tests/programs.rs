//! The real programs, end to end.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use tms_transport_serial::testing::{Exchange, Line, Noise, Pty, Quirks, Settings, SimModem};

/// The directory of the programs. `cargo test --workspace` builds them; a test of this package alone does not, so that they
/// are built here where they are missing or older than their source.
fn programs() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_tms-quickstart")).parent().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let sources = [
            "tms-proto",
            "tms-core",
            "tms-store-sqlite",
            "examples/gateway",
            "examples/server",
            "examples/terminal",
            "examples/tool",
        ];
        let newest = sources
            .iter()
            .map(|package| newest(&workspace.join(package).join("src")))
            .max()
            .unwrap();
        let built = |name: &&str| {
            directory
                .join(name)
                .metadata()
                .is_ok_and(|file| file.modified().unwrap() >= newest)
        };
        if !["tms", "tms-gateway", "tms-server", "tms-terminal"].iter().all(built) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args([
                "build",
                "--bins",
                "-p",
                "tms-gateway",
                "-p",
                "tms-server",
                "-p",
                "tms-terminal",
                "-p",
                "tms-tool",
                "--target-dir",
            ]);
            cargo.arg(directory.parent().unwrap());
            if directory.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the programs cannot be built");
        }
        directory.to_owned()
    })
}

fn newest(directory: &Path) -> std::time::SystemTime {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let times = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    times.max().unwrap_or(std::time::SystemTime::UNIX_EPOCH)
}

/// An estate in a temporary directory, and the programs on it.
struct Bench {
    directory: TempDir,
}

impl Bench {
    /// A new estate with one published package of `size` bytes and one terminal, for which it is queued.
    fn new(size: usize) -> Self {
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        bench.tms(["init", "estate", "--bits", "2048", "--organisation", "Test"]);
        fs::write(
            bench.path("app.bin"),
            (0..size).map(|n| (n * n / 7) as u8).collect::<Vec<_>>(),
        )
        .unwrap();
        let key = "estate/keys/vendor.pem";
        let described = [
            "--component",
            "cashier",
            "--version",
            "1.0",
            "--counter",
            "0",
            "--vendor",
            "PAX",
            "--model",
            "P80",
        ];
        bench.tms(["package", "build"].iter().chain(&described).chain(&[
            "--content",
            "app.bin",
            "--key",
            key,
            "-o",
            "app.tmspkg",
        ]));
        bench.tms(["publish", "app.tmspkg"]);
        bench.tms([
            "enrol", "--vendor", "PAX", "--model", "P80", "--serial", "0001", "--bits", "2048",
        ]);
        bench.tms(["queue", "--serial", "0001", "--package", "cashier@1.0"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        command
            .current_dir(self.directory.path())
            .env("TMS_ESTATE", "estate")
            .env("TMS_ACTOR", "tester")
            .env_remove("TMS_LOG");
        command
    }

    /// Runs `tms`, which must succeed, and gives what it says.
    fn tms<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.command("tms").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `tms`, which must fail with this status, and gives what it says.
    fn tms_fails<S: AsRef<OsStr>>(&self, status: i32, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.command("tms").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{said}");
        said
    }

    fn server(&self) -> Server {
        Server::start(
            self.command("tms-server")
                .args(["--listen", "127.0.0.1:0", "--log", "info"]),
        )
    }

    fn terminal(&self, server: &Server) -> Command {
        let mut command = self.command("tms-terminal");
        command.args([
            "--dir",
            "estate/terminals/0001",
            "--server",
            &server.address,
            "--once",
            "--plain",
        ]);
        command
    }

    /// Waits until the terminal has at least so many bytes of its download.
    fn downloaded(&self, bytes: u64) {
        let flash = self.path("estate/terminals/0001/flash");
        for _ in 0..2_000 {
            let entries = fs::read_dir(&flash).into_iter().flatten().flatten();
            let objects = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("object."));
            if objects
                .filter_map(|entry| entry.metadata().ok())
                .any(|object| object.len() >= bytes)
            {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the terminal does not download");
    }
}

/// A server that runs. It is killed when it is dropped, so that none outlives a test that fails.
struct Server {
    child: Child,
    address: String,
    log: Option<ChildStderr>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let mut server = Self { child, address, log };
        if server.address.is_empty() {
            panic!("the server does not start: {}", server.log());
        }
        server
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Its exit status, which must come within seconds.
    fn ends(&mut self) -> Option<i32> {
        for _ in 0..1_000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end");
    }

    fn log(&mut self) -> String {
        let mut text = String::new();
        self.log.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first byte of the download in a check-in report.
fn from(report: &str) -> u64 {
    let line = report.lines().skip_while(|line| !line.starts_with("DOWNLOAD")).nth(1);
    let line = line.unwrap_or_else(|| panic!("no download in\n{report}"));
    line.trim().split('-').next().unwrap().parse().unwrap()
}

#[test]
fn a_terminal_behind_a_gateway_is_managed_as_any_other_and_the_server_knows_who_called() {
    let bench = Bench::new(300_000);
    let mut server = Server::start(bench.command("tms-server").args([
        "--listen",
        "127.0.0.1:0",
        "--gateway",
        "127.0.0.1/32",
        "--log",
        "info",
    ]));
    // A head office that does not answer is passed over for the next.
    let mut gateway = Server::start(bench.command("tms-gateway").args([
        "--upstream",
        "127.0.0.1:1",
        "--upstream",
        &server.address,
        "--listen",
        "127.0.0.1:0",
        "--envelope",
        "stx-bcd",
        "--log",
        "info",
    ]));
    let output = bench
        .terminal(&gateway)
        .args(["--envelope", "stx-bcd"])
        .output()
        .unwrap();
    let report = stdout(&output);
    assert!(
        output.status.success() && report.contains("running-confirmed SUCC"),
        "{report}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Nobody but a gateway calls from there: one that sends no header is dropped.
    assert!(!bench.terminal(&server).output().unwrap().status.success());

    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ends(), Some(0));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    let (seen, forwarded) = (server.log(), gateway.log());
    assert!(seen.contains(" via 127.0.0.1:"), "{seen}");
    assert!(forwarded.contains("call ended"), "{forwarded}");
}

/// Two telephones, on simulated modems behind pseudo-terminals: they need the runtime for as long as they are there.
struct Telephones {
    _runtime: tokio::runtime::Runtime,
    _modems: (SimModem, SimModem),
    answers: Pty,
    calls: Pty,
}

impl Telephones {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let inside = runtime.enter();
        let exchange = Exchange::new(Settings {
            line: Line {
                bits_per_second: 115_200,
                noise: Noise {
                    bits_per_million: 20,
                    ..Noise::default()
                },
                ..Line::default()
            },
            prefix: Some("9".to_owned()),
            // It rings for long enough that a modem that is still being set up can answer.
            ring: Duration::from_secs(1),
            caller: Duration::from_millis(100),
            ..Settings::quick()
        });
        let office = exchange.modem("5551234", Quirks::default());
        let phone = exchange.modem("5550001", Quirks::default());
        let (answers, calls) = (office.pty().unwrap(), phone.pty().unwrap());
        drop(inside);
        Self {
            _runtime: runtime,
            _modems: (office, phone),
            answers,
            calls,
        }
    }

    /// The file of the lines of whoever answers.
    fn lines(&self, bench: &Bench) {
        let device = self.answers.path().display();
        let line = format!("[[line]]\nname = \"modem-1\"\ndevice = \"{device}\"\nnumber = \"5551234\"\n");
        fs::write(bench.path("lines.toml"), line).unwrap();
    }

    /// A terminal calls, and gets its update.
    fn call(&self, bench: &Bench, server: &Server) {
        let device = self.calls.path().to_str().unwrap();
        let mut terminal = bench.terminal(server);
        let output = terminal
            .args(["--modem", device, "--number", "9,5551234"])
            .output()
            .unwrap();
        let report = stdout(&output);
        assert!(
            output.status.success() && report.contains("running-confirmed SUCC"),
            "{report}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_terminal_with_nothing_but_a_telephone_is_managed_as_any_other() {
    let (bench, telephones) = (Bench::new(20_000), Telephones::new());
    telephones.lines(&bench);
    let mut command = bench.command("tms-server");
    command.args(["--listen", "127.0.0.1:0", "--modem-pool", "lines.toml", "--log", "info"]);
    let mut server = Server::start(&mut command);
    telephones.call(&bench, &server);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    let log = server.log();
    assert!(log.contains("line modem-1, caller 5550001"), "{log}");
}

#[test]
fn a_gateway_answers_the_telephone_of_a_branch_and_says_who_called() {
    let (bench, telephones) = (Bench::new(20_000), Telephones::new());
    telephones.lines(&bench);
    let mut command = bench.command("tms-server");
    command.args(["--listen", "127.0.0.1:0", "--gateway", "127.0.0.1/32", "--log", "info"]);
    let mut server = Server::start(&mut command);
    let mut command = bench.command("tms-gateway");
    command.args(["--upstream", &server.address, "--listen", "127.0.0.1:0"]);
    command.args(["--modem-pool", "lines.toml", "--log", "info"]);
    let mut gateway = Server::start(&mut command);
    telephones.call(&bench, &server);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ends(), Some(0));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    let log = server.log();
    assert!(
        log.contains("line modem-1, caller 5550001") && log.contains(" via 127.0.0.1:"),
        "{log}"
    );
}

#[test]
fn a_terminal_that_calls_while_the_head_office_does_not_answer_is_asked_to_call_again() {
    let bench = Bench::new(1_000);
    let mut gateway = Server::start(bench.command("tms-gateway").args([
        "--upstream",
        "127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--log",
        "info",
    ]));
    let output = bench.terminal(&gateway).output().unwrap();
    assert!(!output.status.success());
    let said = stdout(&output) + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("busy"), "{said}");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ends(), Some(0));
    let log = gateway.log();
    assert!(log.contains("the head office does not answer"), "{log}");
}

#[test]
fn a_terminal_is_killed_in_its_download_and_goes_on() {
    const SIZE: usize = 3_000_000;
    let bench = Bench::new(SIZE);
    let mut server = bench.server();
    assert!(bench.tms(["terminal", "0001"]).contains("enrolled"));

    let mut child = bench
        .terminal(&server)
        .args(["--rate", "8000000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    bench.downloaded(1_000_000);
    child.kill().unwrap();
    child.wait().unwrap();

    let output = bench.terminal(&server).output().unwrap();
    let report = stdout(&output);
    assert!(
        output.status.success(),
        "{report}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!((500_000..SIZE as u64).contains(&from(&report)), "{report}");
    assert!(report.contains("running-confirmed SUCC"), "{report}");

    let shown = bench.tms(["terminal", "0001"]);
    for needed in ["active", "cashier", "1.0", "running-confirmed", "SUCC", "tester"] {
        assert!(shown.contains(needed), "{needed} is missing in\n{shown}");
    }
    let slot = bench.path("estate/terminals/0001/flash/slot.cashier.a");
    assert!(
        fs::read(slot).unwrap() == fs::read(bench.path("app.bin")).unwrap(),
        "other content runs"
    );

    // Nothing is left: the next call only checks in.
    let output = bench.terminal(&server).args(["--trigger", "manual"]).output().unwrap();
    assert!(output.status.success() && !stdout(&output).contains("DOWNLOAD") && stdout(&output).contains("CHECK-IN"));

    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    let log = server.log();
    assert!(log.contains("PAX/P80/0001") && log.contains("checked in"), "{log}");
    let key = fs::read_to_string(bench.path("estate/keys/ticket.key")).unwrap();
    assert!(!log.contains(key.trim()) && !log.contains("PRIVATE"), "{log}");
    // What a stranger's script reads.
    let events = bench.tms(["events", "--json"]);
    let kinds: Vec<String> = events
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for kind in ["published", "enrolled", "queued", "checked_in", "result"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind} is missing in {kinds:?}");
    }
    let csv = bench.tms(["terminals", "--csv"]);
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.starts_with("id,vendor,model,serial,state,"), "{csv}");
}

#[test]
fn an_update_comes_as_the_difference_to_what_the_terminal_runs() {
    let bench = Bench::new(200_000);
    let server = bench.server();
    let output = bench.terminal(&server).output().unwrap();
    assert!(
        stdout(&output).contains("running-confirmed SUCC"),
        "{}",
        stdout(&output)
    );

    let mut content = fs::read(bench.path("app.bin")).unwrap();
    content.splice(70_000..70_000, *b"a new function");
    fs::write(bench.path("app.bin"), &content).unwrap();
    bench.tms(
        "package build --component cashier --version 1.1 --counter 0 --vendor PAX --model P80 --content app.bin \
         --key estate/keys/vendor.pem -o app.tmspkg"
            .split_whitespace(),
    );
    bench.tms(["publish", "app.tmspkg"]);
    let shown = bench.tms(["represent", "cashier@1.1", "--base", "cashier@1.0"]);
    let line = shown.lines().find(|line| line.contains("delta")).unwrap_or_default();
    assert!(line.contains("1.0") && line.contains("1 %"), "{shown}");
    assert!(bench.tms(["events"]).contains("smaller"));
    bench.tms_fails(1, ["represent", "cashier@1.1", "--base", "cashier@7.0"]);

    bench.tms(["queue", "--serial", "0001", "--package", "cashier@1.1"]);
    let output = bench.terminal(&server).args(["--trigger", "manual"]).output().unwrap();
    let report = stdout(&output);
    assert!(report.contains("running-confirmed SUCC"), "{report}");
    let line = report.lines().skip_while(|line| !line.starts_with("DOWNLOAD")).nth(1);
    let of = line.and_then(|line| line.split(" of ").nth(1)).unwrap_or_default();
    assert!(of.parse::<u64>().is_ok_and(|size| size < 2_000), "{report}");
    let running = ["a", "b"].map(|slot| {
        fs::read(bench.path(&format!("estate/terminals/0001/flash/slot.cashier.{slot}"))).unwrap_or_default()
    });
    assert!(running.contains(&content), "other content runs");
}

#[test]
fn a_server_that_is_stopped_ends_its_calls_and_loses_nothing() {
    let bench = Bench::new(3_000_000);
    let mut server = bench.server();
    let child = bench
        .terminal(&server)
        .args(["--rate", "8000000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bench.downloaded(500_000);
    server.signal(Signal::SIGTERM);
    // Long before the thirty seconds that it would wait for a call that does not end.
    assert_eq!(server.ends(), Some(0));
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains("RECORDED yes"), "{}", stdout(&output));
    assert!(server.log().contains("stopped"));

    let mut server = bench.server();
    let output = bench.terminal(&server).output().unwrap();
    assert!(
        output.status.success() && from(&stdout(&output)) >= 400_000,
        "{}",
        stdout(&output)
    );
    server.signal(Signal::SIGINT);
    assert_eq!(server.ends(), Some(0));
}

#[test]
fn a_package_that_was_signed_off_line_is_installed_where_it_fits_and_nowhere_else() {
    let bench = Bench::new(100_000);
    let key = bench.tms(["key", "show", "estate/keys/vendor.pem"]);
    assert!(key.contains("BEGIN PUBLIC KEY") && !key.contains("PRIVATE"));
    fs::write(
        bench.path("next.toml"),
        "component = \"cashier\"\nversion = \"1.1\"\ncounter = 1\nvendor = \"PAX\"\nmodels = [\"P80\"]\ncontent = \"app.bin\"\n",
    )
    .unwrap();
    let public = "estate/public/vendor.pem";
    bench.tms([
        "package",
        "build",
        "--manifest",
        "next.toml",
        "--signer",
        public,
        "-o",
        "next.tmspkg",
    ]);
    assert!(
        bench
            .tms_fails(3, ["package", "verify", "next.tmspkg"])
            .contains("signatures")
    );
    assert!(bench.tms_fails(3, ["publish", "next.tmspkg"]).contains("signatures"));

    // The command that it prints is the one that works.
    let said = bench.tms(["package", "tbs", "next.tmspkg"]);
    let openssl = said
        .lines()
        .find(|line| line.trim_start().starts_with("openssl dgst"))
        .unwrap();
    let openssl = openssl.trim().replace("PRIVATE.pem", "estate/keys/vendor.pem");
    let signed = Command::new("sh")
        .args(["-c", &openssl])
        .current_dir(bench.directory.path())
        .status()
        .unwrap();
    assert!(
        signed.success(),
        "openssl is needed for this test: apt-get install openssl"
    );
    bench.tms([
        "package",
        "attach",
        "next.tmspkg",
        "--signer",
        public,
        "--signature",
        "next.sig",
    ]);
    assert!(bench.tms(["package", "verify", "next.tmspkg"]).contains("signed by"));
    bench.tms(["publish", "next.tmspkg"]);
    assert_eq!(bench.tms(["packages", "--json"]).lines().count(), 2);

    // Another model gets nothing, and is told so in a sentence.
    bench.tms([
        "enrol", "--vendor", "PAX", "--model", "P90", "--serial", "0002", "--bits", "2048",
    ]);
    assert!(
        bench
            .tms_fails(3, ["queue", "--serial", "0002", "--package", "cashier@1.1"])
            .contains("P80")
    );
    assert!(
        bench
            .tms_fails(
                3,
                [
                    "enrol", "--vendor", "PAX", "--model", "P90", "--serial", "0002", "--dir", "x"
                ]
            )
            .contains("enrolled already")
    );

    // A terminal that is switched off is refused, and told so.
    let server = bench.server();
    bench.tms(["state", "0001", "deactivated"]);
    let output = bench.terminal(&server).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(stdout(&output).contains("DEACTIVATED"), "{}", stdout(&output));
    bench.tms(["state", "0001", "active"]);

    // The newer package takes the place of the one that waited.
    bench.tms(["queue", "--serial", "0001", "--package", "cashier@1.1"]);
    let output = bench.terminal(&server).output().unwrap();
    assert!(output.status.success(), "{}", stdout(&output));
    let shown = bench.tms(["terminal", "0001"]);
    assert!(
        shown.contains("superseded") && shown.contains("running-confirmed"),
        "{shown}"
    );
}

#[test]
fn a_second_signal_ends_a_server_at_once_and_a_busy_port_is_named() {
    let bench = Bench::new(3_000_000);
    let mut server = bench.server();
    let refused = bench
        .command("tms-server")
        .args(["--listen", &server.address])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(1) && said.contains(&format!("cannot listen on {}", server.address)),
        "{said}"
    );
    server.signal(Signal::SIGINT);
    assert_eq!(server.ends(), Some(0));

    fs::rename(bench.path("estate/blobs"), bench.path("estate/elsewhere")).unwrap();
    let refused = bench
        .command("tms-server")
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(1) && said.contains("blob directory"),
        "{said}"
    );
    fs::write(
        bench.path("estate/tms.db"),
        "this is no database, whatever its name says",
    )
    .unwrap();
    let refused = bench
        .command("tms-server")
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("tms.db"), "{said}");
}

#[test]
fn the_quickstart_shows_what_it_promises() {
    let directory = tempfile::tempdir().unwrap();
    let estate = directory.path().join("estate");
    let quickstart = |estate: &Path| {
        Command::new(env!("CARGO_BIN_EXE_tms-quickstart"))
            .arg("--plain")
            .arg("--dir")
            .arg(estate)
            .output()
            .unwrap()
    };
    let output = quickstart(&estate);
    let said = stdout(&output);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(said.matches("running-confirmed (SUCC)").count(), 4, "{said}");
    assert_eq!(said.matches("nothing queued").count(), 2, "{said}");
    let again = said
        .lines()
        .find(|line| line.contains("cut at byte") && line.contains("went on at byte"))
        .unwrap();
    let numbers: Vec<u64> = again
        .split(|char: char| !char.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(numbers[1] > 0 && numbers[3] == numbers[1], "{again}");

    // The paths that it prints are real: the server runs on them, and a terminal by itself is updated by it.
    let bench = Bench { directory };
    bench.tms(["queue", "--serial", "10000001", "--package", "cashier@2.1.0"]);
    let server = bench.server();
    let mut terminal = bench.command("tms-terminal");
    terminal.args([
        "--dir",
        "estate/terminals/10000001",
        "--server",
        &server.address,
        "--once",
    ]);
    let output = terminal.output().unwrap();
    assert!(output.status.success(), "{}", stdout(&output));
    assert!(bench.tms(["terminals"]).contains("cashier 2.1.0"));

    let output = quickstart(&estate);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty"));
}

#[test]
fn help_of_the_quickstart_is_enough() {
    let output = Command::new(env!("CARGO_BIN_EXE_tms-quickstart"))
        .arg("--help")
        .output()
        .unwrap();
    let help = stdout(&output);
    assert!(
        ["--dir", "--plain", "--keep"]
            .iter()
            .all(|needed| help.contains(needed)),
        "{help}"
    );
}
