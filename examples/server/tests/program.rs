//! The program `tms-server`, as a stranger meets it: help, and what it says where something is wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn server(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tms-server"))
        .args(arguments)
        .env_remove("TMS_ESTATE")
        .env_remove("TMS_LOG")
        .output()
        .unwrap()
}

/// Runs it where it must fail, and gives its exit status and what it says of the reason.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = server(arguments);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_is_enough_to_learn_from() {
    let output = server(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for needed in [
        "--estate",
        "--config",
        "--listen",
        "--envelope",
        "stx-bcd",
        "--drain",
        "--log-format",
        "SIGTERM",
        "tms init",
        "Exit status",
    ] {
        assert!(help.contains(needed), "{needed} is missing in\n{help}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(refused(&[]).0, 2);
    let (status, said) = refused(&["--estate", ".", "--envelope", "x25"]);
    assert!(
        status == 2 && said.contains("x25") && said.contains("stx-bcd"),
        "{said}"
    );
    let (status, said) = refused(&["--estate", ".", "--listen", "nowhere"]);
    assert!(status == 2 && said.contains("nowhere"), "{said}");
}

#[test]
fn each_thing_that_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let estate = directory.path().join("estate");
    let says = |needed: &str| {
        let (status, said) = refused(&["--estate", text(&estate)]);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(needed), "{needed} is missing in\n{said}");
        assert_eq!(
            said.lines().filter(|line| line.starts_with("tms-server: ")).count(),
            1,
            "{said}"
        );
    };
    says("tms init");
    fs::create_dir(&estate).unwrap();
    says("server.toml is missing");
    fs::write(estate.join("server.toml"), "[contact]\nperiode = 60\n").unwrap();
    says("periode");
    fs::write(estate.join("server.toml"), "[[listen]]\naddress = \"here\"\n").unwrap();
    says("line 2");
    fs::write(estate.join("server.toml"), "listen = []\n").unwrap();
    says("nowhere to listen");
    fs::write(estate.join("server.toml"), "[log]\nfilter = \"loud=everything\"\n").unwrap();
    says("log filter");
    fs::write(estate.join("server.toml"), "").unwrap();
    says("there is no database");
    fs::write(estate.join("tms.db"), "").unwrap();
    says("keys/server.pem");
}
