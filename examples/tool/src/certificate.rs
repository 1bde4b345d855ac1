//! Card-verifiable certificates, as files.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use tms_core::signer::Signer;
use tms_proto::certificate::{Authority, CERTIFICATE_DOMAIN, Certificate, CertificateBody, DAY, Subject};
use tms_proto::public_key::PublicKey;

use crate::time;

/// From when, and for how long, a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// A second of its first day, since 1970 UTC.
    pub from: u64,
    /// How many days.
    pub days: u32,
}

/// Issues a certificate.
///
/// # Errors
/// Where the subject cannot stand in a certificate, or the issuer does not sign.
pub async fn issue(issuer: &dyn Signer, subject: Subject, key: PublicKey, period: Period) -> Result<Certificate> {
    let last = period.from.saturating_add(u64::from(period.days.max(1) - 1) * DAY);
    let body = CertificateBody {
        authority: Authority::from(issuer.public_key().id()),
        key,
        subject,
        effective: time::day(period.from),
        expiry: time::day(last),
    };
    let signature = issuer
        .sign(CERTIFICATE_DOMAIN, &body.to_be_signed())
        .await
        .context("the issuer's key does not sign")?;
    Certificate::assemble(&body, &signature).with_context(|| {
        format!(
            "{} cannot stand in a certificate: each part needs 1 to 40 printable characters",
            body.subject
        )
    })
}

/// Reads a certificate from a file.
///
/// # Errors
/// Where there is none in it.
pub fn read(path: &Path) -> Result<Certificate> {
    let content = fs::read(path).with_context(|| format!("cannot read the certificate {}", path.display()))?;
    Certificate::decode(&content).with_context(|| format!("{} is not a certificate", path.display()))
}
