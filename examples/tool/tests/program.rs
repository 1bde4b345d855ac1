//! The program `tms`, as a stranger meets it: help, and what it says where something is wrong.

use std::path::Path;
use std::process::{Command, Output};

fn tms(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tms"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("TMS_ESTATE")
        .env_remove("TMS_ACTOR")
        .output()
        .unwrap()
}

#[test]
fn help_is_enough_to_learn_from() {
    let here = Path::new(".");
    let help = |arguments: &[&str]| {
        let output = tms(here, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&["--help"]);
    let commands = [
        "init",
        "key",
        "cert",
        "package",
        "publish",
        "packages",
        "represent",
        "enrol",
        "terminals",
        "terminal",
        "queue",
        "cancel",
        "state",
        "renew",
        "events",
        "report",
        "install",
        "replace",
        "case",
        "text",
        "assets",
        "policy",
        "access",
        "template",
        "layer",
        "drift",
        "notice",
        "release",
        "floor",
    ];
    for command in commands {
        assert!(
            all.lines()
                .any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command} is missing in\n{all}"
        );
        assert!(help(&[command, "--help"]).contains("Usage: tms"));
    }
    assert!(all.contains("Exit status"));
    for command in [
        ["key", "new"],
        ["key", "show"],
        ["cert", "issue"],
        ["cert", "show"],
        ["package", "build"],
        ["package", "tbs"],
        ["template", "affected"],
        ["layer", "put"],
        ["drift", "restore"],
        ["key", "parameter"],
        ["notice", "put"],
    ] {
        assert!(help(&[command[0], command[1], "--help"]).contains("Usage: tms"));
    }
}

#[test]
fn errors_are_one_sentence_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let says = |arguments: &[&str], status: i32, needed: &str| {
        let output = tms(directory.path(), arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(
            said.starts_with("tms: ") && said.lines().count() == 1 && said.contains(needed),
            "{needed} is missing in\n{said}"
        );
    };
    says(&["terminals"], 1, "tms init");
    says(&["--estate", "nowhere", "packages"], 1, "there is no directory nowhere");
    says(&["key", "show", "key.pem"], 1, "key.pem");
    says(&["key", "new", "key.pem", "--bits", "1024"], 1, "2048 to 4096");
    says(&["package", "build", "--component", "x"], 1, "--version");
    says(&["package", "show", "x.tmspkg"], 1, "x.tmspkg");
    std::fs::write(directory.path().join("x.tmspkg"), "hello").unwrap();
    says(&["package", "show", "x.tmspkg"], 1, "not a package");
    says(&["cert", "show", "x.tmspkg"], 1, "not a certificate");
    let output = tms(directory.path(), &["frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
}
