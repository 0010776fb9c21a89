//! A picture of the ratios: one bar for each, as long as it is, with the goal as a mark on it.

use super::figures::{Figure, Goal, times};
use super::results::{Measurement, Results};

/// What the name of a figure tells if it is not the operator's, but that of the other one that is measured beside it.
const REFERENCE: &str = "reference on kopf";

/// Where names, bars and numbers begin, and where all ends.
const NAMES: f64 = 20.0;
const BARS: f64 = 400.0;
const NUMBERS: f64 = 760.0;
const WIDTH: f64 = 900.0;

/// The height of a line, and of a bar in it.
const LINE: f64 = 24.0;
const BAR: f64 = 13.0;

/// A ratio beyond this is told, and not drawn to its end: it would make all others small.
const FARTHEST: f64 = 4.0;

const INK: &str = "#24292f";
const FAINT: &str = "#6b737c";
const MET: &str = "#2f7d6b";
const MISSED: &str = "#c4533a";
const OPEN: &str = "#5f7fa8";
const OTHER: &str = "#b4bac1";

/// Nothing is drawn of figures without a floor.
pub(super) fn svg(results: &Results) -> String {
    let groups: Vec<_> = results.measurements.iter().map(|it| (it, ratios(it))).filter(|it| !it.1.is_empty()).collect();
    let all = groups.iter().flat_map(|(_, ratios)| ratios.iter().copied());
    let mut plot = Plot::up_to(all.map(farthest).fold(1.5, f64::max));
    plot.head(results);
    for (measurement, ratios) in groups {
        plot.group(measurement);
        ratios.into_iter().for_each(|figure| plot.row(figure));
    }
    plot.end()
}

fn ratios(measurement: &Measurement) -> Vec<&Figure> {
    measurement.figures.iter().filter(|figure| figure.ratio.is_some()).collect()
}

/// How far to the right something of it is drawn.
fn farthest(figure: &Figure) -> f64 {
    let goal = match figure.goal {
        Some(Goal::AtMost(goal) | Goal::AtLeast(goal)) => goal,
        None => 0.0,
    };
    figure.compared().max(figure.runs.between().1).max(goal)
}

struct Plot {
    shapes: String,
    /// Where the next line begins.
    top: f64,
    /// The ratio at the right end.
    end: f64,
}

impl Plot {
    fn up_to(ratio: f64) -> Self {
        Self { shapes: String::new(), top: 20.0, end: (ratio * 2.0).ceil().min(FARTHEST * 2.0) / 2.0 }
    }

    fn x(&self, ratio: f64) -> f64 {
        BARS + ratio.min(self.end) / self.end * (NUMBERS - 20.0 - BARS)
    }

    fn text(&mut self, x: f64, style: &str, text: &str) {
        let baseline = self.top + LINE * 0.67;
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.shapes += &format!("<text x=\"{x:.1}\" y=\"{baseline:.1}\" {style}>{text}</text>\n");
    }

    fn rectangle(&mut self, (x, width): (f64, f64), height: f64, fill: &str) {
        let y = self.top + (LINE - height) / 2.0;
        self.shapes += &format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"1\" fill=\"{fill}\"/>\n"
        );
    }

    /// What it is, and what its colours mean.
    fn head(&mut self, results: &Results) {
        self.text(NAMES, "font-size=\"16\" font-weight=\"600\"", "Time as a ratio to the floor of the same run");
        self.top += LINE * 0.9;
        let machine = &results.machine;
        let on = format!(
            "{}, {} cores, {} GiB; Kubernetes {}",
            machine.processor, machine.cores, machine.memory_gib, machine.kubernetes
        );
        self.text(NAMES, &faint("start"), &format!("{on}; {}, revision {}", results.date, machine.revision));
        self.top += LINE * 1.2;
        let has_reference = results.measurements.iter().any(|it| it.figures.iter().any(is_reference));
        let reference = has_reference.then_some((OTHER, REFERENCE));
        let colours = [(MET, "as good as the goal"), (MISSED, "not yet"), (OPEN, "no goal")];
        let mut x = NAMES;
        for (colour, meaning) in colours.into_iter().chain(reference) {
            self.rectangle((x, BAR), BAR, colour);
            self.text(x + BAR + 6.0, &faint("start"), meaning);
            x += 40.0 + 6.5 * meaning.len() as f64;
        }
        self.rectangle((x, 3.0), BAR + 7.0, INK);
        self.text(x + 9.0, &faint("start"), "goal");
        self.rectangle((x + 56.0, 20.0), 1.5, INK);
        self.text(x + 82.0, &faint("start"), "range of the runs");
        self.top += LINE * 1.4;
    }

    fn group(&mut self, measurement: &Measurement) {
        self.top += LINE * 0.4;
        // The lines of the ratios do not run through it.
        let style = "font-weight=\"600\" stroke=\"#ffffff\" stroke-width=\"5\" paint-order=\"stroke\"";
        self.text(NAMES, style, &measurement.about);
        self.top += LINE;
    }

    fn row(&mut self, figure: &Figure) {
        let (start, end, ratio) = (self.x(0.0), self.x(figure.compared()), figure.compared());
        let colour = match figure.is_met() {
            _ if is_reference(figure) => OTHER,
            Some(true) => MET,
            Some(false) => MISSED,
            None => OPEN,
        };
        self.text(BARS - 12.0, "text-anchor=\"end\"", &figure.what);
        self.rectangle((start, end - start), BAR, colour);
        let (low, high) = figure.runs.between();
        if high > low {
            self.rectangle((self.x(low), self.x(high) - self.x(low)), 1.5, INK);
        }
        if let Some(Goal::AtMost(goal) | Goal::AtLeast(goal)) = figure.goal {
            self.rectangle((self.x(goal) - 1.5, 3.0), BAR + 7.0, INK);
        }
        let beyond = if ratio > self.end { "› " } else { "" };
        self.text(NUMBERS + 32.0, "text-anchor=\"end\" font-weight=\"600\"", &format!("{beyond}{}", times(ratio)));
        self.text(WIDTH - 20.0, &faint("end"), &figure.measured());
        self.top += LINE;
    }

    /// All of it, above lines for the ratios.
    fn end(self) -> String {
        let (top, bottom) = (20.0 + LINE * 3.2, self.top + 8.0);
        let halves = (0..=(self.end * 2.0) as u32).map(|half| f64::from(half) / 2.0);
        let lines = halves.map(|ratio| {
            let (x, y) = (self.x(ratio), bottom + 14.0);
            let (colour, width) = if ratio == 1.0 { (INK, 1.2) } else { ("#e3e6ea", 1.0) };
            format!(
                "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\n\
                 <text x=\"{x:.1}\" y=\"{y:.1}\" {}>{ratio}</text>\n",
                faint("middle")
            )
        });
        let (lines, height) = (lines.collect::<String>(), bottom + 30.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-size=\"13\" fill=\"{INK}\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\">\n\
             <title>Time as a ratio to the floor of the same run</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{lines}{}</svg>\n",
            self.shapes
        )
    }
}

fn is_reference(figure: &Figure) -> bool {
    figure.what.contains(REFERENCE)
}

fn faint(anchor: &str) -> String {
    format!("font-size=\"12\" fill=\"{FAINT}\" text-anchor=\"{anchor}\"")
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::super::results::sample;
    use super::*;

    fn drawn(fill: impl FnOnce(&mut Figures)) -> String {
        let mut figures = Figures::default();
        fill(&mut figures);
        let measurement = Measurement { name: "mass".to_owned(), about: "a < b & c".to_owned(), figures };
        svg(&Results { measurements: vec![measurement], ..sample() })
    }

    #[test]
    fn each_ratio_has_a_bar_in_the_colour_of_its_verdict() {
        let drawn = drawn(|figures| {
            figures.ratio("within", 1.0, 1.0, 1.25);
            figures.ratio("beyond", 1.5, 1.0, 1.25);
            figures.beside("reference on kopf", 40.0, 1.0);
            figures.add("no ratio", 1.0, "s", None);
        });
        let bars = |colour: &str| drawn.matches(&format!("fill=\"{colour}\"/>")).count();
        // One of each is in the legend.
        assert_eq!([MET, MISSED, OPEN, OTHER].map(bars), [2, 2, 1, 2]);
        assert!(drawn.contains(">a &lt; b &amp; c</text>") && drawn.contains(">› 40</text>"), "{drawn}");
        assert!(!drawn.contains("no ratio"));
    }

    #[test]
    fn without_ratios_nothing_is_drawn_and_no_colour_of_another_is_explained() {
        let drawn = drawn(|figures| figures.add("no ratio", 1.0, "s", None));
        assert!(!drawn.contains("a &lt; b") && !drawn.contains("kopf"), "{drawn}");
    }
}
