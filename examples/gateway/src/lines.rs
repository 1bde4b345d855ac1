//! The counters of telephone lines and cables.

use metrics::{counter, gauge};
use std::time::Duration;
use tms_transport_serial::at::Phase;
use tms_transport_serial::pool::PoolHandle;

/// How often the lines are looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// Shows how each line is, for as long as this runs.
pub async fn watch(lines: PoolHandle) {
    loop {
        for line in lines.lines() {
            let name = line.name;
            let counters = line.status.counters;
            let usable = line.status.fault.is_none() && !line.draining;
            gauge!("tms_gateway_line_usable", "line" => name.clone()).set(f64::from(u8::from(usable)));
            let online = line.status.phase == Phase::Online;
            gauge!("tms_gateway_line_online", "line" => name.clone()).set(f64::from(u8::from(online)));
            for (what, count) in [
                ("answered", counters.answered),
                ("not connected", counters.failed_in),
                ("missed", counters.missed),
                ("silent", line.silent),
                ("fault", counters.faults),
                ("port error", counters.port_errors),
            ] {
                counter!("tms_gateway_line_events_total", "line" => name.clone(), "what" => what).absolute(count);
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}
