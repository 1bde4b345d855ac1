//! Replays the corpus, and keeps it complete.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Once;
use tms_fuzz::{TARGETS, profile};
use tms_proto::envelope::LengthForm;
use tms_proto::tlv::split;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names in a directory, without the ends of files.
fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    entries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// The files of a target's corpus.
fn corpus(target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root().join("corpus").join(target)) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_file_passes() {
    bless();
    for (target, body) in TARGETS {
        let files = corpus(target);
        assert!(
            !files.is_empty(),
            "target {target} has no corpus: put seeds into fuzz/corpus/{target}"
        );
        for file in files {
            let data = fs::read(&file).unwrap();
            assert!(
                catch_unwind(|| body(&data)).is_ok(),
                "{} breaks target {target}",
                file.display()
            );
        }
    }
}

#[test]
fn every_target_is_complete() {
    bless();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(target, _)| String::from(*target)).collect();
    assert_eq!(targets.len(), TARGETS.len(), "a target is named twice");
    assert_eq!(names("corpus"), targets, "corpus directories and targets differ");
    assert_eq!(names("fuzz_targets"), targets, "fuzz_targets/*.rs and targets differ");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for target in &targets {
        let bin = format!("[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
        assert!(manifest.contains(&bin), "target {target} has no [[bin]]");
    }
}

/// The seeds that follow from the vectors of `tms-proto`: target, name and bytes.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let entries = |file: &str| -> Vec<Value> {
        let path = root().join("../tms-proto/tests/vectors").join(file);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
    let bytes = |entry: &Value| hex::decode(entry["hex"].as_str().unwrap()).unwrap();

    let mut seeds = Vec::new();
    for entry in entries("messages.json") {
        let bytes = bytes(&entry);
        let (element, _) = split(&bytes, 0).unwrap();
        seeds.push(("tlv", name(&entry), element.value.to_vec()));
        seeds.push(("message", name(&entry), bytes));
    }
    for entry in entries("envelopes.json") {
        let wanted = &entry["profile"];
        let number = (0..32).find(|number| {
            let envelope = profile(*number);
            let length = match envelope.length {
                LengthForm::Big16 => "big-endian-16",
                LengthForm::Little16 => "little-endian-16",
                LengthForm::Bcd16 => "bcd-16",
                LengthForm::Ascii4 => "ascii-4",
            };
            wanted["length"] == length
                && wanted["inclusive"] == envelope.inclusive
                && wanted["tpdu"] == envelope.tpdu.is_some()
                && wanted["delimited"] == envelope.delimited
        });
        // In pieces of three bytes.
        let mut data = vec![number.expect("every profile of the vectors has a number"), 2];
        data.extend(bytes(&entry));
        seeds.push(("envelope", name(&entry), data));
    }
    for entry in entries("representations.json") {
        let object = hex::decode(entry["object"].as_str().unwrap()).unwrap();
        // As it is, in pieces of eight bytes.
        let style = u8::from(entry.get("base").is_some());
        seeds.push(("representation", name(&entry), [&[style, 7][..], &object].concat()));
        if let Some(stream) = object.get(9..).filter(|_| name(&entry).contains("stored")) {
            // What stands in its block, in a frame that the target makes.
            let data = [&[style | 2, 0][..], stream].concat();
            seeds.push(("representation", format!("{}-stream", name(&entry)), data));
        }
    }
    seeds.extend(link_seeds(&entries("links.json")));
    seeds.extend(secure_seeds());
    seeds
}

/// Greetings and frames as noise, the contents of frames as those of a hostile peer, and some lines between honest ends.
fn link_seeds(entries: &[Value]) -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for entry in entries {
        let name = entry["name"].as_str().unwrap();
        let Some(line) = entry["hex"].as_str().map(|line| hex::decode(line).unwrap()) else {
            continue;
        };
        seeds.push(("link", format!("noise-{name}"), [&[0][..], &line].concat()));
        if entry["coding"] == "eight" {
            // Without flag and check value; what is escaped makes another frame of it.
            let frame = &line[..line.len().saturating_sub(5)];
            let length = u8::try_from(frame.len()).unwrap_or(255);
            seeds.push(("link", format!("hostile-{name}"), [&[1, length, 3][..], frame].concat()));
        }
    }
    for (name, style) in [
        ("full", 2),
        ("rate", 18),
        ("half", 6),
        ("seven", 10),
        ("half-seven", 30),
    ] {
        let script = (0..200_u8).map(|index| index.wrapping_mul(37));
        seeds.push((
            "link",
            format!("between-{name}"),
            std::iter::once(style).chain(script).collect(),
        ));
        seeds.push(("link", format!("between-{name}-clean"), vec![style]));
    }
    seeds
}

/// The seeds of the targets that have to do with keys.
fn secure_seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let file = |file: &str| -> Value {
        let path = root().join("../tms-proto/tests/vectors").join(file);
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();

    let mut seeds = Vec::new();
    for vector in list(&file("handshakes.json")) {
        let name = format!("mode-{}-suite-{}", vector["mode"], vector["suite"]);
        let messages: Vec<Vec<u8>> = list(&vector["messages"])
            .iter()
            .map(|message| bytes(&message["noise"]))
            .collect();
        let length = u16::try_from(messages[0].len()).unwrap().to_be_bytes();
        for (number, other) in messages.iter().enumerate().skip(1) {
            let data = [&bytes(&vector["hello"])[..], &length, &messages[0], other].concat();
            seeds.push(("handshake", format!("{name}-message-{}", number + 1), data));
        }
        if vector["mode"] == 3 && vector["suite"] == 1 {
            for record in list(&vector["records"]) {
                let content = u8::try_from(record["content"].as_u64().unwrap()).unwrap();
                let data = [&[content, 3][..], &bytes(&record["body"])].concat();
                seeds.push((
                    "record",
                    format!("{}-{}", record["from"].as_str().unwrap(), record["number"]),
                    data,
                ));
            }
        }
    }
    seeds.push(("handshake", "busy".into(), vec![0x65, 6, 0x80, 1, 90, 0x81, 1, 40]));
    seeds.push((
        "handshake",
        "refuse".into(),
        vec![0x66, 9, 0x80, 1, 59, 0x81, 1, 1, 0x82, 1, 1],
    ));
    seeds.push(("handshake", "patience".into(), vec![0x67, 3, 0x80, 1, 20]));
    let credentials = file("credentials.json");
    for vector in list(&credentials["certificates"]) {
        let name = format!("certificate-{}", vector["key"].as_str().unwrap());
        seeds.push(("credential", name, bytes(&vector["certificate"])));
    }
    for vector in list(&credentials["channel_certificates"]) {
        let name = format!("credentials-{}", vector["key"].as_str().unwrap());
        seeds.push(("credential", name, bytes(&vector["credentials"])));
    }
    let packages = file("packages.json");
    for name in [
        "signed_manifest",
        "file_head",
        "trust_store",
        "signed_trust_store",
        "signed_grant",
    ] {
        seeds.push(("package", name.replace('_', "-"), bytes(&packages[name])));
    }
    seeds
}

/// Writes the seeds anew where that is asked for, before any test looks at them.
fn bless() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("TMS_BLESS").is_some_and(|bless| bless == "1") {
            for (target, name, data) in seeds() {
                let directory = root().join("corpus").join(target);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join(name), data).unwrap();
            }
        }
    });
}

#[test]
fn the_seeds_are_those_of_the_vectors() {
    bless();
    for (target, name, data) in seeds() {
        let file = root().join("corpus").join(target).join(name);
        let found = fs::read(&file).unwrap_or_default();
        assert!(
            found == data,
            "{} is not what the vectors say; TMS_BLESS=1 writes it",
            file.display()
        );
    }
}
