//! Command lines that people paste: words that a shell takes as they are, and commands for one node.

use crate::cluster::node::Addr;
use crate::cluster::parse::Product;

/// A word that a shell leaves alone. Nodes announce their host names themselves, and people paste the
/// command lines.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_=/,%+@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A command line from its words.
pub fn command_line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// The command line that sends `command` to the node at `addr`.
pub fn redis_cli(addr: &Addr, command: &str) -> String {
    let (host, port) = (shell_word(addr.host()), addr.port());
    format!("redis-cli -h {host} -p {port} {command}")
}

/// The command by which the node that leads an atomic slot migration task cancels it. Valkey has no
/// command that cancels a single one.
pub fn cancel_task(product: Product, id: &str) -> String {
    match product {
        Product::Valkey => "CLUSTER CANCELSLOTMIGRATIONS".to_string(),
        Product::Redis => format!("CLUSTER MIGRATION CANCEL ID {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_words_as_they_are() {
        assert_eq!(shell_word("10.0.0.1:6379"), "10.0.0.1:6379");
        assert_eq!(shell_word("[fe80::1%eth0]:6379"), "'[fe80::1%eth0]:6379'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("a; reboot"), "'a; reboot'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(
            redis_cli(&Addr::new("$(reboot)", 7000), "CLUSTER FAILOVER FORCE"),
            "redis-cli -h '$(reboot)' -p 7000 CLUSTER FAILOVER FORCE"
        );
    }
}
