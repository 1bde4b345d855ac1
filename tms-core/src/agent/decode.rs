//! Content out of a representation that is here whole (§9.6, §9.7), into the memory.

use super::action::Coded;
use super::device::Installer;
use super::flash::FlashError;
use super::journal::{Notebook, object_name};
use tms_proto::code::Representation;
use tms_proto::package::Manifest;
use tms_proto::representation::{Decoder, RepresentationError, Step};

/// How much is read and written at a time.
const CHUNK: usize = 64 * 1024;

/// Why there is no content.
#[derive(Debug)]
pub(super) enum Undecoded {
    /// The memory failed, or is full.
    Flash(FlashError),
    /// It cannot be decoded here, now or ever.
    Never(String),
}

impl From<FlashError> for Undecoded {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

impl From<RepresentationError> for Undecoded {
    fn from(error: RepresentationError) -> Self {
        Self::Never(error.to_string())
    }
}

/// Writes what the representation gives to where a downloaded content would stand, durably. It is yet to be compared with its
/// manifest. Broken off anywhere, it begins anew.
pub(super) async fn decode(
    notebook: &Notebook,
    installer: &dyn Installer,
    manifest: &Manifest,
    coded: &Coded,
) -> Result<(), Undecoded> {
    let component = &manifest.component;
    let mut decoder = match coded.form {
        Representation::Zstd => Decoder::zstd(manifest.size),
        Representation::Delta => Decoder::delta(manifest.size),
        other => return Err(Undecoded::Never(format!("{other} is not decoded here"))),
    };
    if let Some(base) = coded.base {
        // It ran when the download began.
        let running = installer.running(component).await;
        if running.ok().and_then(|running| running.content) != Some(base) {
            return Err(Undecoded::Never("what it is against does not run".to_owned()));
        }
    }
    let (source, target) = (object_name(&coded.object), object_name(&manifest.digest));
    let (mut read, mut written) = (0, 0);
    let mut content = Vec::with_capacity(CHUNK);
    let mut piece = bytes::Bytes::new();
    loop {
        match decoder.step()? {
            Step::More => {
                if piece.is_empty() {
                    piece = notebook.flash.read(&source, read, CHUNK).await?;
                    read = plus(read, piece.len());
                }
                if piece.is_empty() {
                    return Err(RepresentationError::Short.into());
                }
                let taken = decoder.push(&piece);
                piece = piece.split_off(taken.min(piece.len()));
            }
            Step::Base { offset, length } => {
                let base = installer.read(component, offset, length).await;
                let base = base.map_err(|error| Undecoded::Never(format!("base cannot be read: {error}")))?;
                decoder.base(&base);
            }
            Step::Content(bytes) => {
                content.extend_from_slice(bytes);
                if content.len() >= CHUNK {
                    notebook.flash.append(&target, written, &content).await?;
                    written = plus(written, content.len());
                    content.clear();
                }
            }
            Step::Done if !piece.is_empty() || read < coded.size => return Err(RepresentationError::Trailing.into()),
            Step::Done => break,
        }
    }
    notebook.flash.append(&target, written, &content).await?;
    Ok(notebook.flash.sync(&target).await?)
}

fn plus(offset: u64, bytes: usize) -> u64 {
    offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
}
