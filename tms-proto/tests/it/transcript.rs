//! Vectors of whole sessions: for each mode every byte that goes over the line, under fixed keys (protocol §14).

use crate::fixture::{self, Party};
use crate::session::{Outcome, Pair, Script, plan_with, psk, report};
use serde_json::{Value, json};
use tms_proto::credential::Credentials;
use tms_proto::machine::{Machine, Output};
use tms_proto::session::{Opening, ServerConfig, TerminalConfig};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sessions.json");

/// The object that the sessions download, in records of 512 bytes.
const OBJECT: usize = 1_200;

/// Runs one session and notes each flight with its direction.
fn transcript(mode: u8, server: &Party, terminal: &Party) -> Value {
    let (psk, identity) = (psk(), server.identity());
    let content = vec![0x5A; OBJECT];
    let statics = matches!(mode, 1 | 4);
    let script = Script {
        psk: (mode != 1).then_some(&psk),
        identity: statics.then_some(&identity),
        server: statics.then_some(server),
        terminal: statics.then_some(terminal),
        remembered: false,
        report: report(),
        plan: plan_with(&content),
        content,
        window: 4_096,
    };
    let opening = match mode {
        1 => Opening::Rsa {
            static_key: &terminal.static_key,
            remembered: None,
        },
        2 => Opening::MainKey {
            terminal: 5,
            epoch: 2,
            psk: &psk,
            report: &script.report,
        },
        3 => Opening::Ticket {
            id: [3; 16],
            psk: &psk,
            report: &script.report,
        },
        _ => Opening::Both {
            static_key: &terminal.static_key,
            remembered: None,
            terminal: 5,
            epoch: 2,
            psk: &psk,
        },
    };
    let config = TerminalConfig {
        max_record: 512,
        ..TerminalConfig::default()
    };
    let mut pair = Pair::new(&config, &ServerConfig::default(), &opening);
    let (mut flights, mut outcome) = (Vec::new(), Outcome::default());
    loop {
        let (from, bytes) = match pair.terminal.poll() {
            Output::Event(event) => {
                script.terminal_event(&mut pair, event, &mut outcome);
                continue;
            }
            Output::Transmit(bytes) => ("terminal", bytes),
            Output::Wait(_) | Output::Close => match pair.server.poll() {
                Output::Event(event) => {
                    script.server_event(&mut pair, event, &mut outcome);
                    continue;
                }
                Output::Transmit(bytes) => ("server", bytes),
                Output::Wait(_) | Output::Close => break,
            },
        };
        flights.push(json!({ "from": from, "hex": hex::encode(&bytes) }));
        let input = tms_proto::machine::Input::Received(&bytes);
        match from {
            "terminal" => pair.server.handle(pair.now, input),
            _ => pair.terminal.handle(pair.now, input),
        }
    }
    assert_eq!(outcome.received, script.content);
    assert!(
        matches!(outcome.terminal_end, Some(tms_proto::session::End::Bye(_))),
        "{outcome:?}"
    );
    json!({ "mode": mode, "flights": flights })
}

fn make(server: &Party, terminal: &Party) -> Value {
    let sessions: Vec<Value> = (1..=4).map(|mode| transcript(mode, server, terminal)).collect();
    json!({
        "envelope": "TCP",
        "time": fixture::NOW,
        "psk": hex::encode(psk().expose()),
        "terminal_ephemeral": hex::encode([7; 32]),
        "server_ephemeral": hex::encode([9; 32]),
        "terminal_static": hex::encode(fixture::TERMINAL_STATIC),
        "server_static": hex::encode(fixture::SERVER_STATIC),
        "terminal_credentials": hex::encode(terminal.credentials.encode()),
        "server_credentials": hex::encode(server.credentials.encode()),
        "max_record": 512,
        "object": hex::encode(vec![0x5A; OBJECT]),
        "report": hex::encode(tms_proto::message::Message::from(report()).to_vec()),
        "plan": hex::encode(tms_proto::message::Message::from(plan_with(&vec![0x5A; OBJECT])).to_vec()),
        "sessions": sessions,
    })
}

/// `TMS_BLESS=1` writes the vectors anew; the signatures in the credentials are other ones each time.
#[test]
fn whole_sessions_are_those_of_the_vectors() {
    if std::env::var_os("TMS_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&make(&fixture::server(), &fixture::terminal())).unwrap();
        std::fs::write(FILE, text + "\n").unwrap();
    }
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let credentials = |name: &str| {
        let bytes = hex::decode(vectors[name].as_str().unwrap()).unwrap();
        Credentials::decode(&bytes).unwrap()
    };
    let server = Party {
        credentials: credentials("server_credentials"),
        ..fixture::server()
    };
    let terminal = Party {
        credentials: credentials("terminal_credentials"),
        ..fixture::terminal()
    };
    assert_eq!(make(&server, &terminal), vectors);
}
