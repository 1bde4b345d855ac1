//! The specification, `docs/protocol.md`, against the code, both ways: no field, message or code is missing in either, and
//! every clause that is cited is there.
//!
//! What is read of the document: under a heading `#### Name (tag)` or `#### Name`, the table that follows. Its first two
//! columns say what it is: `tag | field | type | times`, `tag | message | way`, `code | name`, `bit | name`.

use crate::session;
use crate::structure::structures;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tms_proto::certificate::{Anchor, Anchors, CERTIFICATE_DOMAIN, MAX_CERTIFICATE};
use tms_proto::code::*;
use tms_proto::credential::{CHANNEL_DOMAIN, ChannelCertificate, PROOF_DOMAIN, Remembered};
use tms_proto::handshake::{Busy, Hello, Kind, MAX_HELLO, Mode, Patience, Refuse, Suite};
use tms_proto::identity::Holder;
use tms_proto::message::*;
use tms_proto::package::{
    BlockMap, BlockMapReference, Dependency, FileEntry, Grant, Hints, Installed, KeySet, KeySignature, MAX_SIGNATURES,
    MAX_SIGNED, Manifest, PackageFile, RoleKeys, Signable, TrustStore,
};
use tms_proto::record::{Content, MAX_PLAINTEXT, MIN_PLAINTEXT, REKEY_AFTER};
use tms_proto::tlv::{MAX_ELEMENTS, MAX_MUST_UNDERSTAND, MUST_UNDERSTAND, Structure, Tag};

/// Structures that the document names otherwise than the code.
const NAMES: [(&str, &str); 2] = [("Wire", "CertificateBody"), ("Template", "RoleTemplate")];

/// A heading and the table under it.
struct Section {
    /// The tag in the heading.
    tag: Option<u32>,
    /// The table, its first row the heads of the columns.
    rows: Vec<Vec<String>>,
}

impl Section {
    fn is(&self, first: &str, second: &str) -> bool {
        self.rows
            .first()
            .is_some_and(|head| head[0] == first && head[1] == second)
    }

    /// The cells of the columns with these heads, row by row.
    fn columns<const N: usize>(&self, heads: [&str; N]) -> Vec<[String; N]> {
        let (head, rows) = self.rows.split_first().unwrap();
        let places = heads.map(|name| {
            head.iter()
                .position(|cell| cell == name)
                .unwrap_or_else(|| panic!("no {name}"))
        });
        rows.iter().map(|row| places.map(|place| row[place].clone())).collect()
    }
}

/// A structure as its source declares it.
struct Declared {
    public: bool,
    /// Name, type and tag of each field.
    fields: Vec<[String; 3]>,
}

fn document() -> String {
    fs::read_to_string(root().join("docs/protocol.md")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sections() -> BTreeMap<String, Section> {
    let mut sections = BTreeMap::new();
    let mut current: Option<(String, Section)> = None;
    for line in document().lines() {
        let over = current.as_ref().is_some_and(|(_, section)| !section.rows.is_empty()) && !line.starts_with('|');
        if (line.starts_with('#') || over)
            && let Some((name, section)) = current.take().filter(|(_, section)| !section.rows.is_empty())
        {
            assert!(
                sections.insert(name.clone(), section).is_none(),
                "{name} is there twice"
            );
        }
        if let Some(title) = line.strip_prefix("#### ") {
            let (name, tag) = match title.split_once(" (") {
                Some((name, tag)) => (name, Some(hex_number(tag.strip_suffix(')').unwrap()))),
                None => (title, None),
            };
            current = Some((name.to_owned(), Section { tag, rows: Vec::new() }));
        } else if let (Some((_, section)), true) = (&mut current, line.starts_with('|')) {
            let cells = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_owned());
            if !line.starts_with("|---") {
                section.rows.push(cells.collect());
            }
        }
    }
    sections
}

fn hex_number(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text} is no tag"))
}

fn sources(crate_name: &str) -> Vec<String> {
    fn walk(directory: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut out = Vec::new();
    walk(&root().join(crate_name).join("src"), &mut out);
    out
}

/// The lines inside every use of a macro that begins and ends at the left margin.
fn uses(source: &str, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        if line == format!("{name}! {{") {
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if inside {
            lines.push(line.trim().to_owned());
        }
    }
    lines
}

/// All structures of the crate, public or not, by the names that the document has for them.
fn declared() -> BTreeMap<String, Declared> {
    let mut structures: BTreeMap<String, Declared> = BTreeMap::new();
    let mut name = String::new();
    for line in sources("tms-proto").iter().flat_map(|source| uses(source, "tlv")) {
        let (public, declaration) = match line.strip_prefix("pub ") {
            Some(declaration) => (true, declaration),
            None => (false, line.as_str()),
        };
        if let Some(structure) = declaration
            .strip_prefix("struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            name = documented(structure);
            let empty = Declared {
                public,
                fields: Vec::new(),
            };
            assert!(
                structures.insert(name.clone(), empty).is_none(),
                "{name} is declared twice"
            );
        } else if let Some((field, rest)) = declaration.split_once(": ")
            && let Some((kind, tag)) = rest.trim_end_matches(',').split_once(" = 0x")
        {
            let field = [field.to_owned(), kind.to_owned(), tag.to_owned()];
            structures.get_mut(&name).unwrap().fields.push(field);
        }
    }
    structures
}

fn documented(name: &str) -> String {
    NAMES
        .iter()
        .find(|(code, _)| *code == name)
        .map_or(name, |(_, document)| *document)
        .to_owned()
}

/// Type and times of a field, as the document writes them.
fn form(kind: &str) -> (String, &'static str) {
    let inner = |prefix: &str| kind.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    let (kind, times) = match (inner("Option<"), inner("Vec<")) {
        (Some(kind), _) => (kind, "0..1"),
        (_, Some(kind)) => (kind, "0..n"),
        _ => (kind, "1"),
    };
    let kind = match kind.rsplit("::").next().unwrap() {
        "String" => "text",
        "Bytes" | "Subject" => "bytes",
        "Digest" | "KeyId" => "digest",
        "bool" => "flag",
        "Date" => "date",
        "Psk" | "[u8; 32]" => "bytes 32",
        "CredentialId" | "[u8; 16]" => "bytes 16",
        "Authority" => "bytes 4",
        "Roles" => "bytes 1",
        other => return (documented(other), times),
    };
    (kind.to_owned(), times)
}

/// Names and fields of every public structure, as the compiler sees them.
fn compiled() -> BTreeMap<String, &'static [(&'static str, Tag)]> {
    macro_rules! fields {
        ($($name:ident { $($field:ident),* $(,)? })*) => {
            [$((stringify!($name), $name::FIELDS)),*]
        };
    }
    let messages = structures!(fields);
    let others = [
        ("Hello", Hello::FIELDS),
        ("Busy", Busy::FIELDS),
        ("Refuse", Refuse::FIELDS),
        ("Patience", Patience::FIELDS),
        ("Holder", Holder::FIELDS),
        ("Anchor", Anchor::FIELDS),
        ("Anchors", Anchors::FIELDS),
        ("ChannelCertificate", ChannelCertificate::FIELDS),
        ("Remembered", Remembered::FIELDS),
        ("Manifest", Manifest::FIELDS),
        ("Dependency", Dependency::FIELDS),
        ("FileEntry", FileEntry::FIELDS),
        ("Hints", Hints::FIELDS),
        ("Installed", Installed::FIELDS),
        ("KeySignature", KeySignature::FIELDS),
        ("TrustStore", TrustStore::FIELDS),
        ("KeySet", KeySet::FIELDS),
        ("RoleKeys", RoleKeys::FIELDS),
        ("Grant", Grant::FIELDS),
        ("BlockMapReference", BlockMapReference::FIELDS),
    ];
    messages
        .into_iter()
        .chain(others)
        .map(|(name, fields)| (name.to_owned(), fields))
        .collect()
}

#[test]
fn every_structure_is_in_the_document_with_its_tags() {
    let sections = sections();
    let compiled = compiled();
    for (name, fields) in &compiled {
        let section = sections
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the document"));
        let told: Vec<_> = section
            .columns(["field", "tag"])
            .into_iter()
            .map(|[field, tag]| (field, hex_number(&tag)))
            .collect();
        let known: Vec<_> = fields.iter().map(|(field, tag)| ((*field).to_owned(), tag.0)).collect();
        assert_eq!(told, known, "{name}");
    }
    let declared = declared();
    let public: BTreeSet<_> = declared
        .iter()
        .filter(|(_, structure)| structure.public)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(public, compiled.keys().collect(), "a public structure is not compared");
}

#[test]
fn every_field_has_the_type_that_the_document_says() {
    let sections = sections();
    let declared = declared();
    for (name, structure) in &declared {
        let section = sections
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the document"));
        let known: Vec<_> = structure
            .fields
            .iter()
            .map(|[field, kind, tag]| {
                let (kind, times) = form(kind);
                [tag.clone(), field.clone(), kind, times.to_owned()]
            })
            .collect();
        assert_eq!(section.columns(["tag", "field", "type", "times"]), known, "{name}");
    }
    let told = sections
        .iter()
        .filter(|(_, section)| section.is("tag", "field"))
        .map(|(name, _)| name.as_str());
    // A public key is not declared: it allows no unknown field.
    let known = declared.keys().map(String::as_str).chain(["PublicKey"]);
    assert_eq!(
        told.collect::<BTreeSet<_>>(),
        known.collect(),
        "the document has a structure that the code has not"
    );
}

#[test]
fn every_message_is_in_the_document() {
    let sections = sections();
    let told = sections["Message"].columns(["tag", "message", "way"]);
    let known: Vec<_> = Message::TABLE
        .iter()
        .map(|(name, tag, way)| [tag.to_string(), (*name).to_owned(), way.to_string()])
        .collect();
    assert_eq!(told, known);
    for (name, tag, _) in Message::TABLE {
        assert_eq!(sections[*name].tag, Some(tag.0), "{name}");
    }
}

#[test]
fn headings_have_the_tags_that_are_written() {
    let sections = sections();
    let busy = Busy {
        retry_after: 1,
        reason: None,
    };
    let refuse = Refuse {
        code: ResultCode::Success,
        versions: None,
        suites: None,
    };
    let first = |bytes: Vec<u8>| u32::from(bytes[0]);
    for (name, tag) in [
        ("Hello", first(Hello::new(Mode::Rsa, &[Suite::ChaChaPoly]).encode())),
        ("Busy", first(busy.encode())),
        ("Refuse", first(refuse.encode())),
        ("Patience", first(Patience { seconds: 1 }.encode())),
        ("Manifest", Manifest::TAG.0),
        ("TrustStore", TrustStore::TAG.0),
        ("Grant", Grant::TAG.0),
        ("PublicKey", tms_proto::public_key::PUBLIC_KEY.0),
    ] {
        assert_eq!(sections[name].tag, Some(tag), "{name}");
    }
    assert!(document().contains(&format!("`{MUST_UNDERSTAND}`")));
}

#[test]
fn every_code_is_in_the_document() {
    let sections = sections();
    let mut compared = BTreeSet::new();
    macro_rules! sets {
        ($($name:ident),*) => {$(
            let known: Vec<_> = $name::ALL.iter().map(|code| [u8::from(*code).to_string(), code.name().to_owned()]).collect();
            assert_eq!(sections[stringify!($name)].columns(["code", "name"]), known, stringify!($name));
            compared.insert(stringify!($name));
        )*};
    }
    sets!(
        ResultCode,
        Stage,
        TriggerKind,
        ActionKind,
        Representation,
        ErrorAction,
        ComponentKind,
        ComponentStatus,
        Role,
        TextStatus,
        RegisterIntent,
        EventKind
    );
    let in_code: BTreeSet<String> = sources("tms-proto")
        .iter()
        .flat_map(|source| uses(source, "codes"))
        .filter_map(|line| Some(line.strip_prefix("pub enum ")?.strip_suffix(" {")?.to_owned()))
        .collect();
    assert_eq!(
        in_code.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        compared,
        "a code set is not compared"
    );

    let told = |name: &str| -> Vec<u8> {
        sections[name]
            .columns(["code"])
            .into_iter()
            .map(|[code]| code.parse().unwrap())
            .collect()
    };
    let all = |known: &dyn Fn(u8) -> bool| -> Vec<u8> { (0..=u8::MAX).filter(|code| known(*code)).collect() };
    assert_eq!(told("Mode"), all(&|code| Mode::from_code(code).is_some()));
    assert_eq!(told("Suite"), all(&|code| Suite::from_code(code).is_some()));
    assert_eq!(told("Content"), all(&|code| Content::from_code(code).is_some()));
    let kinds = [
        ("HELLO", Kind::HELLO),
        ("RESPONSE", Kind::RESPONSE),
        ("FINAL", Kind::FINAL),
        ("BUSY", Kind::BUSY),
        ("REFUSE", Kind::REFUSE),
        ("PATIENCE", Kind::PATIENCE),
    ];
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(name, code)| [code.to_string(), (*name).to_owned()])
        .collect();
    assert_eq!(sections["HandshakeKind"].columns(["code", "name"]), kinds);
    compared.extend(["Mode", "Suite", "Content", "HandshakeKind"]);
    let told = sections
        .iter()
        .filter(|(_, section)| section.is("code", "name"))
        .map(|(name, _)| name.as_str());
    assert_eq!(
        told.collect::<BTreeSet<_>>(),
        compared,
        "the document has codes that the code has not"
    );
}

#[test]
fn codes_mean_what_the_document_says() {
    let sections = sections();
    let known: Vec<_> = ResultCode::ALL
        .iter()
        .map(|code| {
            let operator = code
                .operator_number()
                .map(|number| number.to_string())
                .unwrap_or_default();
            [
                code.name().to_owned(),
                operator,
                if code.is_permanent() { "final" } else { "" }.to_owned(),
            ]
        })
        .collect();
    assert_eq!(sections["ResultCode"].columns(["name", "operator", "final"]), known);
    let known: Vec<_> = Stage::ALL
        .iter()
        .map(|stage| [stage.name(), if stage.is_final() { "final" } else { "" }].map(str::to_owned))
        .collect();
    assert_eq!(sections["Stage"].columns(["name", "final"]), known);
}

#[test]
fn every_bit_is_in_the_document() {
    let sections = sections();
    let told = |name: &str| -> Vec<(u16, String)> {
        let rows = sections[name].columns(["bit", "name"]);
        rows.into_iter()
            .map(|[bit, name]| (u16::from_str_radix(&bit, 16).unwrap(), name))
            .collect()
    };
    let wanted = [
        (Wanted::INVENTORY, "INVENTORY"),
        (Wanted::LOG, "LOG"),
        (Wanted::REGISTRATION, "REGISTRATION"),
        (Wanted::CERTIFICATE_REQUEST, "CERTIFICATE_REQUEST"),
    ];
    assert_eq!(
        told("Wanted"),
        wanted.map(|(bit, name)| (u16::from(bit), name.to_owned()))
    );
    let preconditions = [
        (Precondition::SETTLED, "SETTLED"),
        (Precondition::CONFIRMED, "CONFIRMED"),
        (Precondition::IDLE, "IDLE"),
        (Precondition::CHARGING, "CHARGING"),
        (Precondition::UNMETERED, "UNMETERED"),
    ];
    assert_eq!(
        told("Precondition"),
        preconditions.map(|(bit, name)| (bit, name.to_owned()))
    );
    let told = sections
        .iter()
        .filter(|(_, section)| section.is("bit", "name"))
        .map(|(name, _)| name.as_str());
    assert_eq!(told.collect::<Vec<_>>(), ["Precondition", "Wanted"]);
}

#[test]
fn domains_and_limits_are_those_of_the_code() {
    let document = document();
    let domains = [
        CERTIFICATE_DOMAIN,
        CHANNEL_DOMAIN,
        PROOF_DOMAIN,
        Manifest::DOMAIN,
        TrustStore::DOMAIN,
        Grant::DOMAIN,
    ];
    for domain in domains {
        assert!(document.contains(&format!("\n| `{domain}` | ")), "{domain}");
    }
    let (_, limits) = document.split_once("### 13.1 ").unwrap();
    let (limits, _) = limits.split_once("### 13.2 ").unwrap();
    for (what, number) in [
        ("clear hello", MAX_HELLO),
        ("handshake message", tms_proto::handshake::MAX_MESSAGE),
        ("record plaintext", MAX_PLAINTEXT),
        ("record plaintext", MIN_PLAINTEXT),
        ("records under one key", usize::try_from(REKEY_AFTER).unwrap()),
        ("message", MAX_MESSAGE),
        ("elements of a constructed value", MAX_ELEMENTS),
        ("actions of a plan", MAX_ACTIONS),
        ("parameter set", usize::try_from(MAX_PARAMETER_SET).unwrap()),
        ("tags in a must-understand list", MAX_MUST_UNDERSTAND),
        ("certificate", MAX_CERTIFICATE),
        ("RSA modulus", tms_proto::public_key::MIN_BITS),
        ("RSA modulus", tms_proto::public_key::MAX_BITS),
        ("signed manifest, trust store or grant", MAX_SIGNED),
        ("signed manifest, trust store or grant", MAX_SIGNATURES),
        ("block map", usize::try_from(BlockMap::MAX).unwrap()),
        (
            "window of a representation",
            usize::try_from(tms_proto::representation::MAX_WINDOW).unwrap(),
        ),
    ] {
        let row = limits
            .lines()
            .find(|line| line.starts_with(&format!("| {what} |")))
            .unwrap_or_else(|| panic!("{what}"));
        let digits: String = row.chars().filter(|char| *char != ',').collect();
        let found = digits
            .split(|char: char| !char.is_ascii_digit())
            .any(|found| found == number.to_string());
        assert!(found, "{number} is not in: {row}");
    }
    assert_eq!(PackageFile::MAX_HEAD, 8 + 32_768 + 65_536);
}

/// §13.4: the bytes add up, and are those that the code writes.
#[test]
fn the_worked_check_in_adds_up() {
    let document = document();
    let (_, worked) = document.split_once("### 13.4 ").unwrap();
    let (worked, _) = worked.split_once("## 14 ").unwrap();
    let mut sums = Vec::new();
    let mut sum = 0;
    for line in worked.lines().filter(|line| line.starts_with("| ")) {
        let cell = line.trim_matches('|').split('|').next().unwrap().trim();
        match cell.strip_prefix("**").and_then(|bold| bold.strip_suffix("**")) {
            Some(bold) => {
                assert_eq!(bold.parse::<usize>().unwrap(), sum);
                sums.push(std::mem::take(&mut sum));
            }
            None => sum += cell.parse::<usize>().unwrap_or(0),
        }
    }
    let hello = Hello {
        id: Some(vec![3; 16].into()),
        ..Hello::new(Mode::Ticket, &[Suite::ChaChaPoly])
    }
    .encode()
    .len();
    let record = |message: Message| 2 + 1 + message.to_vec().len() + 16;
    let report = Message::from(session::report()).to_vec().len();
    let plan = Message::from(session::unchanged()).to_vec().len();
    let first = 2 + 1 + hello + 32 + report + 16;
    let second = 2 + 1 + 32 + 6 + plan + 16;
    let ack = record(
        PlanAck {
            sequence: 17,
            refused: Vec::new(),
        }
        .into(),
    );
    let bye = record(
        Bye {
            code: ResultCode::Success,
            next_contact: None,
        }
        .into(),
    );
    assert_eq!(sums, [first, second, ack, bye]);
    assert!(worked.contains(&format!("**{} bytes**", first + second + ack + 2 * bye)));
}

/// §14 names every file of vectors, and no other.
#[test]
fn every_file_of_vectors_is_in_the_document() {
    let document = document();
    let (_, told) = document.split_once("\n## 14 ").unwrap();
    let told = told
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(file, _)| file.to_owned());
    let there = fs::read_dir(root().join("tms-proto/tests/vectors")).unwrap();
    let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(told.collect::<BTreeSet<_>>(), there.collect());
}

/// Clauses that code, tests and the document itself cite are there.
#[test]
fn cited_clauses_are_there() {
    let document = document();
    let clauses: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("### ").or_else(|| line.strip_prefix("## ")))
        .filter_map(|title| title.split(' ').next())
        .filter(|number| number.starts_with(|char: char| char.is_ascii_digit()))
        .collect();
    assert!(clauses.len() > 60);
    let mut texts: Vec<String> = ["tms-proto", "tms-core"]
        .iter()
        .flat_map(|name| sources(name))
        .collect();
    texts.push(document.clone());
    for text in &texts {
        for rest in text.split('§').skip(1) {
            let cited: String = rest
                .chars()
                .take_while(|char| char.is_ascii_digit() || *char == '.')
                .collect();
            let cited = cited.trim_end_matches('.');
            let context: String = rest.chars().take(60).collect();
            assert!(clauses.contains(cited), "no clause §{cited}: {context}");
        }
    }
}
