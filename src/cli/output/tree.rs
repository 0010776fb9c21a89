//! Trees, for answers that have parts.

/// A line and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    line: String,
    children: Vec<Node>,
}

impl Node {
    /// A line with nothing below it.
    pub fn leaf(line: impl Into<String>) -> Self {
        Self::new(line, [])
    }

    /// A line and its children.
    pub fn new(line: impl Into<String>, children: impl IntoIterator<Item = Self>) -> Self {
        Self { line: line.into(), children: children.into_iter().collect() }
    }

    /// The tree as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.line);
        self.write_children("", &mut text);
        text
    }

    fn write_children(&self, indent: &str, text: &mut String) {
        let last = self.children.len().saturating_sub(1);
        for (i, child) in self.children.iter().enumerate() {
            let (branch, below) = if i == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            text.push_str(&format!("{indent}{branch}{}\n", child.line));
            child.write_children(&format!("{indent}{below}"), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_hangs_below_its_parent() {
        let tree = Node::new("a", [Node::new("b", [Node::leaf("c"), Node::leaf("d")]), Node::leaf("e")]);
        assert_eq!(tree.text(), "a\n├─ b\n│  ├─ c\n│  └─ d\n└─ e\n");
    }
}
