//! What a decision costs, that it does not grow with the number of tenants, and what loading a policy takes.

use std::{fmt::Write as _, hint::black_box};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use egret::decide::{Policy, Probe};

/// Five services of twenty lines each, and tenants with an integration of each.
fn text(tenants: usize) -> String {
    let mut text = "version: 1\nguards: [{match: \"s0 DELETE **\", deny: no}, {match: \"mcp tool drop_*\", deny: no}]\nservices:\n".to_owned();
    for service in 0..4 {
        let _ =
            writeln!(text, "  s{service}:\n    hosts: [api{service}.example.com]\n    roles:\n      user:");
        for line in 0..20 {
            let _ = writeln!(text, "        - GET|POST /v1/things{line}/*/parts/**");
        }
    }
    text.push_str("  mcp:\n    mcp: https://mcp.example.com/mcp\n    roles:\n      user:\n");
    for line in 0..20 {
        let _ = writeln!(text, "        - tool list_{line}_*");
    }
    text.push_str("tenants:\n");
    for number in 0..tenants {
        let _ = writeln!(text, "  t{number}:\n    integrations:");
        for service in ["s0", "s1", "s2", "s3", "mcp"] {
            let _ = writeln!(
                text,
                "      {service}: {{credential: {{static: {{bearer: \"env:K{number}\"}}}}, limit: 120/min}}"
            );
        }
        text.push_str("    agents: {bot: {s0: user, s1: user, s2: user, s3: user, mcp: user}}\n");
    }
    text
}

fn policy(text: &str) -> Policy {
    match Policy::from_text("bench.yaml", text) {
        Ok(policy) => policy,
        Err(problems) => unreachable!("{problems}"),
    }
}

fn decide(c: &mut Criterion) {
    for tenants in [10, 10_000] {
        let policy = policy(&text(tenants));
        let tenant = format!("t{}", tenants / 2);
        for (name, request) in [
            ("allowed", "POST https://api3.example.com/v1/things19/7/parts/8"),
            ("refused", "DELETE https://api0.example.com/v1/things19/7/parts/8"),
            ("elsewhere", "GET https://evil.example/"),
            ("tool allowed", "tool list_19_x @ https://mcp.example.com/mcp"),
            ("tool refused", "tool drop_x @ https://mcp.example.com/mcp"),
        ] {
            let Ok(probe) = Probe::new(&tenant, "bot", request) else { unreachable!() };
            c.bench_function(&format!("{name}, {tenants} tenants"), |b| {
                b.iter(|| black_box(&probe).allowed(black_box(&policy)));
            });
        }
    }
}

fn load(c: &mut Criterion) {
    let text = text(10_000);
    let mut group = c.benchmark_group("load");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("10000 tenants with 5 integrations", |b| b.iter(|| policy(black_box(&text))));
    group.finish();
}

criterion_group!(benches, decide, load);
criterion_main!(benches);
