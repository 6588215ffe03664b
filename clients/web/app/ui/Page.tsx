import type { JSX } from "solid-js";
import { t } from "../i18n/index.ts";
import { Icon } from "./icons.tsx";

/** A page in the middle that is no conversation. */
export function Page(props: { title: string; back?: string; children: JSX.Element }) {
    return (
        <section class="page">
            <header class="page-head">
                <a class="icon-button" classList={{ "only-narrow": !props.back }} href={props.back ?? "#/"} aria-label={t("common.back")}><Icon name="back" /></a>
                <h1>{props.title}</h1>
            </header>
            <div class="page-body">{props.children}</div>
        </section>
    );
}
