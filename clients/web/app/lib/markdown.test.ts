import { expect, test } from "vitest";
import { format } from "./markdown.ts";

test("a plain text has no formatted body, with line breaks and quotes or without", () => {
    for (const text of ["hello", "it's \"fine\" & <good>", "two\nlines"]) expect(format(text)).toBeNull();
});

test("marks become tags", () => {
    expect(format("Hello **Bob**")).toBe("Hello <strong>Bob</strong>");
    expect(format("- a\n- b")).toContain("<li>a</li>");
    expect(format("```rust\nfn x() {}\n```")).toContain('<code class="language-rust">');
});

test("what looks like HTML stays what was typed", () => {
    expect(format("**x** <img src=x onerror=alert(1)>")).not.toContain("<img");
    expect(format("![x](https://example.org/a.png)")).not.toContain("<img");
});
