//! What goes wrong around the gateway, and what must hold meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Behaviour, Response, TokenBuilder, eventually};
use crate::world::World;

/// A part of the run, but never more than this.
fn every(world: &World, longest: u64) -> Duration {
    (world.length / 8).min(Duration::from_secs(longest))
}

/// Reloads in turns a policy, a stricter one, one that is wrong, and one that is written in place.
pub(crate) async fn reloads(world: Arc<World>) {
    let policy = |flip: &str| World::policy(flip).render(world.issuer.url(), &world.api.url());
    let (open, strict) = (policy("orders:read"), policy("orders:write"));
    let wrong = open.replace("scopes: [orders:read]", "scope: [orders:read]");
    let mut verdict = "200 -";
    for turn in 0.. {
        if !world.pause(every(&world, 10)).await {
            return;
        }
        let reloaded = match turn % 4 {
            0 => {
                verdict = "403 scope_missing";
                world.gateway.replace_config(&strict);
                world.gateway.reload().await
            }
            1 => {
                world.gateway.replace_config(&wrong);
                world.gateway.reload().await
            }
            2 => {
                verdict = "200 -";
                world.gateway.write_config_in_place(&open);
                world.gateway.reload().await
            }
            // Another text of the same policy.
            _ => {
                world.gateway.replace_config(&format!("# {turn}\n{open}"));
                world.gateway.reload().await
            }
        };
        let accepted = reloaded.status == 200;
        if accepted == (turn % 4 == 1) {
            world.fault(format!("reload {turn}: {} {}", reloaded.status, reloaded.text()));
        }
        world.count(if accepted { "reloads" } else { "reloads refused" });
        check_flip(&world, verdict).await;
    }
}

/// What `/flip` says after a reload is what the policy in force says.
async fn check_flip(world: &World, expected: &str) {
    let began = std::time::Instant::now();
    let tokens = world.tokens.read().await;
    let answer = world.gateway.get("/flip").token(&tokens.mint()).try_send().await;
    drop(tokens);
    let verdict = answer.as_ref().map_or_else(|| "closed".to_owned(), Response::verdict);
    if verdict != expected && !(expected == "200 -" && world.excuses(began)) {
        world.fault(format!("after a reload /flip is {verdict} instead of {expected}"));
    }
}

/// Takes the upstream away and brings it back.
pub(crate) async fn restarts(world: Arc<World>) {
    while world.pause(every(&world, 15)).await {
        world.outage_begins();
        world.api.stop().await;
        world.pause(Duration::from_millis(700)).await;
        world.api.resume().await;
        world.outage_ends();
        world.count("upstream restarts");
    }
}

/// Lets the issuer fail, gives it new keys meanwhile, and takes the old ones back when it is well again.
pub(crate) async fn issuer(world: Arc<World>) {
    for turn in 0.. {
        if !world.pause(every(&world, 20)).await {
            return;
        }
        world.issuer.behave([Behaviour::Down, Behaviour::Failing, Behaviour::Empty][turn % 3].clone());
        tokio::task::block_in_place(|| world.issuer.add_keys());
        let new = world.issuer.token();
        let verdict = ask(&world, &new).await;
        if verdict != "503 keys_unavailable" && verdict != "401 key_unknown" {
            world.fault(format!("a key that could not be fetched: {verdict}"));
        }
        world.pause(every(&world, 3)).await;
        world.issuer.behave(Behaviour::Well);
        eventually("the new key is taken", || async {
            let verdict = ask(&world, &new).await;
            (verdict.starts_with("200") || verdict.starts_with("502")).then_some(())
        })
        .await;
        let old = world.publish(new.clone()).await;
        world.issuer.withdraw_old_keys();
        eventually("the old key is dead", || async {
            (ask(&world, &old).await == "401 key_unknown").then_some(())
        })
        .await;
        world.count("issuer outages with new keys");
    }
}

/// What a new token by these keys is answered.
async fn ask(world: &World, tokens: &TokenBuilder) -> String {
    let answer = world.gateway.get("/orders/1").token(&tokens.mint()).try_send().await;
    answer.as_ref().map_or_else(|| "closed".to_owned(), Response::verdict)
}
