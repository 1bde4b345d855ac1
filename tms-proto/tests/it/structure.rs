//! The structures of the messages with their fields, named once for everything that goes through all of them.
//!
//! A field that is missing here does not compile: both users take the structures apart, or build them, without a rest.

/// Hands the list to a macro.
macro_rules! structures {
    ($apply:ident) => {
        $apply! {
            StatusReport {
                trigger, contact, time, zone, inventory_digest, inventory, logical, held, location, state, results, errors,
                plan, next_contact,
            }
            Trigger { kind, source, task, check_code, retry }
            Inventory { components, parameters, keys, capabilities, hardware }
            Component { id, kind, version, counter, status, digest, serial, expiry, provider }
            ParameterSet { name, kind, version, digest, changed_on_site, changed_at }
            KeySlot { slot, version, usage, check_value, expiry }
            Capabilities {
                representations, display_columns, display_rows, printer_columns, charsets, links, unattended, max_object,
            }
            LogicalTerminal { merchant, terminal, application }
            HeldObject { digest, held, representation }
            Location { caller, called, address, iccid, imei, cell }
            DeviceState { unsettled, busy, battery, charging, flash, ram, tampered, boots, boot_reason }
            Memory { total, free }
            ErrorEntry { time, code, vendor_code, text }
            Plan { sequence, unchanged, actions, texts, wanted, next_contact, ticket, not_after, withdrawn_texts }
            Action {
                id, kind, manifest, manifest_size, object, size, representation, base, depends_on, download, install,
                preconditions, min_battery, restart, forced, prompt, on_error, priority, retry_delay, max_attempts, grant,
                component, target, max_postponed,
            }
            Window { from, until }
            NextContact { from, window, jitter, redial_delay, redial_max, after_settlements, power_on, gap }
            Ticket { id, key, lifetime }
            PlanAck { sequence, refused }
            Refusal { action, code }
            ObjectGet { digest, offset, until }
            Credit { until }
            ObjectStart { digest, offset, total, code }
            ActionResult { number, action, attempt, stage, code, vendor_code, text, time, bytes, running }
            ResultAck { numbers, next_contact }
            Text { id, title, body, print, until, confirm }
            TextReceipt { id, status, time }
            Register { intent, code, replaces, installer, location, logical }
            RegisterAnswer { code, logical, text }
            KeyRequest { slot, usage, block }
            KeyBlock { slot, block }
            KeyConfirm { slot, code, check_value }
            CertificateRequest { key }
            CertificateGrant { code, certificate }
            ProofRequest { reason }
            Proof { signature }
            LogPart { name, offset, bytes, last }
            Event { kind, time, text }
            Reject { code, message, text, retry_after }
            Bye { code, next_contact }
        }
    };
}

pub(crate) use structures;
