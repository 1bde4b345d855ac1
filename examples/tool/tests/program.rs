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
        "propose",
        "proposal",
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
        ["propose", "retire"],
        ["proposal", "approve"],
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

#[test]
fn what_takes_two_operators_is_proposed_and_approved() {
    let directory = tempfile::tempdir().unwrap();
    let run = |actor: &str, arguments: &[&str], status: i32| {
        let mut all = vec!["--estate", "estate", "--actor", actor];
        all.extend(arguments);
        let output = tms(directory.path(), &all);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        String::from_utf8(if status == 0 { output.stdout } else { output.stderr }).unwrap()
    };
    let new = tms(
        directory.path(),
        &["init", "estate", "--organisation", "Bank", "--bits", "2048"],
    );
    assert!(new.status.success(), "{new:?}");
    for serial in ["0001", "0002", "0003"] {
        let new = [
            "enrol", "--vendor", "PAX", "--model", "P80", "--serial", serial, "--bits", "2048",
        ];
        run("li", &new, 0);
    }
    let proposed = |said: &str| said.split_whitespace().last().unwrap().to_owned();

    let said = run("li", &["propose", "retire", "0001", "0002", "--reason", "scrapped"], 0);
    assert!(said.contains("retire 2 terminals"), "{said}");
    let retire = proposed(&said);
    let said = run(
        "li",
        &["propose", "main-key", "0003", "--epoch", "7", "--reason", "rotation"],
        0,
    );
    let rotate = proposed(&said);
    let list = run("wang", &["proposal", "list"], 0);
    for needed in [
        &*retire,
        &*rotate,
        "retire 2 terminals",
        "main-control key of epoch 7",
        "li",
    ] {
        assert!(list.contains(needed), "{needed} is missing in\n{list}");
    }
    let shown = run("wang", &["proposal", "show", &retire], 0);
    for needed in ["PAX/P80/0001", "PAX/P80/0002", "scrapped", "stands until"] {
        assert!(shown.contains(needed), "{needed} is missing in\n{shown}");
    }

    let refused = run("li", &["proposal", "approve", &retire], 3);
    assert!(refused.contains("another operator"), "{refused}");
    run("li", &["terminal", "0001"], 0);
    run("wang", &["proposal", "approve", &retire], 0);
    run("li", &["terminal", "0001"], 3);
    let shown = run("li", &["proposal", "show", &retire], 0);
    assert!(shown.contains("approved by  wang") && shown.contains("gone"), "{shown}");
    run("wang", &["proposal", "approve", &retire], 3);

    run("wang", &["proposal", "reject", &rotate], 0);
    run("wang", &["proposal", "approve", &rotate], 3);
    let kept = run("li", &["terminal", "0003"], 0);
    assert!(!kept.contains("epoch 7"), "{kept}");
    let list = run("li", &["proposal", "list"], 0);
    assert!(!list.contains(&*retire) && !list.contains(&*rotate), "{list}");
    run("li", &["audit", "verify"], 0);
}
