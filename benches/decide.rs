//! What a decision costs, and that it does not grow with the number of tenants.

use std::{fmt::Write as _, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use egret::decide::{Policy, Probe};

fn policy(tenants: usize) -> Policy {
    let mut text = "version: 1\nguards: [{match: \"stripe DELETE **\", deny: no}]\ntenants:\n".to_owned();
    for number in 0..tenants {
        let _ = writeln!(
            text,
            "  t{number}: {{integrations: {{openai: {{credential: {{static: {{bearer: \"env:K\"}}}}}}, github: {{credential: none}}}}, agents: {{bot: {{openai: caller, github: writer}}, \"*\": {{github: reader}}}}}}"
        );
    }
    match Policy::from_text("bench.yaml", &text) {
        Ok(policy) => policy,
        Err(problems) => unreachable!("{problems}"),
    }
}

fn decide(c: &mut Criterion) {
    for tenants in [10, 10_000] {
        let policy = policy(tenants);
        let tenant = format!("t{}", tenants / 2);
        for (name, method, url) in [
            ("allowed", "POST", "https://api.github.com/repos/acme/app/issues/1/comments"),
            ("refused", "DELETE", "https://api.github.com/repos/acme/app"),
            ("elsewhere", "GET", "https://evil.example/"),
        ] {
            let Ok(probe) = Probe::new(&tenant, "bot", method, url) else { unreachable!() };
            c.bench_function(&format!("{name}, {tenants} tenants"), |b| {
                b.iter(|| black_box(&probe).allowed(black_box(&policy)));
            });
        }
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
