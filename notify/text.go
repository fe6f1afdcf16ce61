package notify

import (
	"html"
	"regexp"
	"strings"
	"unicode/utf16"

	"holdfast/watch"
)

// Names of resources and people are what others made up: a name may call everyone
// in the channel, or be a link that shows another address than its own. What is
// not seen and stands between two characters keeps them from meaning something.
const blank = "\u200b"

// linked finds addresses; those stay as they are, so that they can be clicked. It
// shows where it leads.
var linked = regexp.MustCompile("https?://[^\\s<>\"'`|()\\[\\]{}\\\\*~\u200b]+")

// prepare returns a message's title and text without what is not seen, and with
// no links in those names that are addresses.
func prepare(m watch.Message) (title, text string) {
	title, text = watch.Clean(m.Title, titleLimit), clean(m.Text)
	for _, e := range m.Events {
		for _, names := range [][]string{e.Resources, e.Who} {
			for _, name := range names {
				if name = watch.Clean(name, 16<<10); strings.Contains(name, "://") {
					harmless := strings.ReplaceAll(name, "://", ":"+blank+"//")
					title, text = strings.ReplaceAll(title, name, harmless), strings.ReplaceAll(text, name, harmless)
				}
			}
		}
	}
	return title, text
}

// between applies f to what is not an address, and keep to what is one.
func between(text string, f, keep func(string) string) string {
	var b strings.Builder
	last := 0
	for _, at := range linked.FindAllStringIndex(text, -1) {
		b.WriteString(f(text[last:at[0]]))
		b.WriteString(keep(text[at[0]:at[1]]))
		last = at[1]
	}
	b.WriteString(f(text[last:]))
	return b.String()
}

func same(s string) string { return s }

// quiet calls nobody and makes no links, in a service whose markup we cannot
// escape: @everyone, <!channel>, <users/all>, [text](address).
func quiet(text string) string {
	replace := strings.NewReplacer("@", "@"+blank, "<", "<"+blank, "](", "]"+blank+"(")
	return between(text, func(s string) string { return replace.Replace(s) }, same)
}

// slackText escapes as Slack asks; mentions and labelled links need a "<".
func slackText(text string) string {
	replace := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	return between(text, func(s string) string {
		return strings.ReplaceAll(replace.Replace(s), "@", "@"+blank)
	}, func(s string) string { return replace.Replace(s) })
}

// markdown escapes what means something anywhere in Markdown.
var markdown = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "~", `\~`, "`", "\\`", "|", `\|`,
	"[", `\[`, "]", `\]`, "#", `\#`, "@", "@"+blank, "<", "<"+blank, ">", `\>`)

// discordText escapes Discord's Markdown.
func discordText(text string) string {
	return between(text, func(s string) string { return markdown.Replace(s) }, same)
}

// teamsText escapes Markdown, and HTML where the card takes it. A line of its own
// needs an empty one before it.
func teamsText(text string, takesHTML bool) string {
	return strings.ReplaceAll(between(text, func(s string) string {
		if takesHTML {
			s = strings.ReplaceAll(s, "@", "@"+blank)
			return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "~", `\~`, "`", "\\`", "|", `\|`, "[", `\[`, "]", `\]`, "#", "\\#").Replace(escapeHTML(s))
		}
		return markdown.Replace(s)
	}, func(s string) string {
		if takesHTML {
			return escapeHTML(s)
		}
		return s
	}), "\n", "\n\n")
}

// escapeHTML uses names only: a numbered one has a "#", which Markdown escapes.
func escapeHTML(s string) string {
	return strings.NewReplacer("&#39;", "'", "&#34;", "&quot;").Replace(html.EscapeString(s))
}

// units counts as Discord and Slack do.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

func size(s string) int { return len(s) }

// encoded is a string's size in JSON, without the quotes.
func encoded(s string) int { return len(encode(s)) - 2 }

// clean keeps lines, and nothing else that is not seen.
func clean(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		lines[i] = line[:min(indent, 8)] + watch.Clean(line, 16<<10)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// withLink is the text with the message's link as its last line, where it is not
// in the text anyway. The text is cut, the link never.
func withLink(text, link string, limit int, size func(string) int) string {
	if link == "" || strings.Contains(text, link) && size(text) <= limit || size(link) > limit/2 {
		return watch.Cut(text, limit, size)
	}
	return watch.Cut(text, limit-size("\n"+link), size) + "\n" + link
}

// clickable returns a link that a button may have, or "".
func clickable(s string) string {
	if at := linked.FindStringIndex(s); at != nil && at[0] == 0 && at[1] == len(s) && len(s) <= 2000 {
		return s
	}
	return ""
}
