/** Times as a person reads them, in the language of the client. */

/** A name for the local day of a time. Asked for each message of a conversation: a quarter of an hour is in one day, wherever one is. */
export function dayKey(ts: number): string {
    const quarter = Math.floor(ts / 900_000);
    let key = days.get(quarter);
    if (!key) {
        if (days.size > 50_000) days.clear();
        const date = new Date(ts);
        days.set(quarter, (key = `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`));
    }
    return key;
}
const days = new Map<number, string>();

const made = new Map<string, Intl.DateTimeFormat>();
function formatter(language: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
    const key = language + JSON.stringify(options);
    let found = made.get(key);
    if (!found) made.set(key, (found = new Intl.DateTimeFormat(language, options)));
    return found;
}

export const timeOf = (ts: number, language: string) => formatter(language, { hour: "2-digit", minute: "2-digit" }).format(ts);

export const dateAndTime = (ts: number, language: string) => formatter(language, { dateStyle: "medium", timeStyle: "short" }).format(ts);

/** "Today", "Yesterday", a weekday of the last week, else a date. */
export function dayName(ts: number, language: string, now = Date.now()): string {
    const days = daysBetween(ts, now);
    if (days === 0 || days === 1) {
        const name = new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(-days, "day");
        return name.charAt(0).toUpperCase() + name.slice(1);
    }
    if (days > 1 && days < 7) return formatter(language, { weekday: "long" }).format(ts);
    const sameYear = new Date(ts).getFullYear() === new Date(now).getFullYear();
    return formatter(language, { day: "numeric", month: "long", ...(sameYear ? {} : { year: "numeric" }) }).format(ts);
}

/** For the list of conversations: a time today, else a day. */
export function shortWhen(ts: number, language: string, now = Date.now()): string {
    const days = daysBetween(ts, now);
    if (days <= 0) return timeOf(ts, language);
    if (days < 7) return formatter(language, { weekday: "short" }).format(ts);
    const sameYear = new Date(ts).getFullYear() === new Date(now).getFullYear();
    return formatter(language, { day: "numeric", month: "short", ...(sameYear ? {} : { year: "2-digit" }) }).format(ts);
}

/** "3 hours ago". */
export function ago(ts: number, language: string, now = Date.now()): string {
    const seconds = Math.round((ts - now) / 1000);
    const format = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
    for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]] as const) {
        if (Math.abs(seconds) >= size) return format.format(Math.trunc(seconds / size), unit);
    }
    return format.format(0, "second");
}

export function bytes(count: number, language: string): string {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte"] as const;
    let i = 0;
    while (count >= 1000 && i < 3) {
        count /= 1000;
        i += 1;
    }
    return new Intl.NumberFormat(language, { style: "unit", unit: units[i]!, unitDisplay: "short", maximumFractionDigits: count < 10 && i > 0 ? 1 : 0 }).format(count);
}

export function duration(ms: number): string {
    const seconds = Math.max(0, Math.round(ms / 1000));
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function daysBetween(ts: number, now: number): number {
    const midnight = (at: number) => new Date(at).setHours(0, 0, 0, 0);
    return Math.round((midnight(now) - midnight(ts)) / 86_400_000);
}
