// The form behind the one-time link: registers the first account through the Matrix client API.
"use strict";

const REGISTER = "/_matrix/client/v3/register";
const VALIDITY = "/_matrix/client/v1/register/m.login.registration_token/validity";

const element = (id) => document.getElementById(id);
const sections = ["running", "setup", "done", "expired"];

function show(name) {
  for (const section of sections) element(section).hidden = section !== name;
}

function announce(text) {
  element("status").textContent = text;
}

// The token stands in the fragment, which is never sent to a server.
function tokenOfLink() {
  const match = /^#\/setup\/([A-Za-z0-9._~-]{1,64})$/.exec(location.hash);
  return match ? match[1] : null;
}

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
    credentials: "omit",
    cache: "no-store",
  });
  const text = await response.text();
  let answer = {};
  try {
    answer = JSON.parse(text);
  } catch {
    // Not from the node; the status says enough.
  }
  return { status: response.status, answer };
}

class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

// User-interactive authentication: the stages of the flow that has the token, one after another.
async function register(token, username, password) {
  const account = { username, password, inhibit_login: true };
  let { status, answer } = await call("POST", REGISTER, account);
  for (let stage = 0; stage < 4; stage += 1) {
    if (status === 200) return answer.user_id;
    if (status !== 401 || !Array.isArray(answer.flows)) break;
    if (answer.errcode) throw new Refused("TOKEN", answer.error || "");
    const done = answer.completed || [];
    const flow = answer.flows.find((each) => each.stages.includes("m.login.registration_token")) || answer.flows[0];
    const next = flow && flow.stages.find((each) => !done.includes(each));
    let auth;
    if (next === "m.login.registration_token") auth = { type: next, token, session: answer.session };
    else if (next === "m.login.dummy") auth = { type: next, session: answer.session };
    else break;
    ({ status, answer } = await call("POST", REGISTER, { ...account, auth }));
  }
  // Registration is closed again: the link has been used.
  if (status === 403) throw new Refused("TOKEN", answer.error || "");
  throw new Refused(answer.errcode || "UNKNOWN", answer.error || `The node answered with status ${status}.`);
}

function fieldError(id, text) {
  element(`${id}-error`).textContent = text;
  if (text) element(id).setAttribute("aria-invalid", "true");
  else element(id).removeAttribute("aria-invalid");
}

// True if both fields can be sent; otherwise the first wrong one has the focus.
function check(username, password) {
  let nameError = "";
  if (!username) nameError = "Choose a user name.";
  else if (!/^[a-z0-9._=\/+-]+$/.test(username)) nameError = "Only small letters a to z, digits and . _ = - / + can be used.";
  const passwordError = [...password].length < 8 ? "Use at least 8 characters." : "";
  fieldError("name", nameError);
  fieldError("password", passwordError);
  if (nameError) element("name").focus();
  else if (passwordError) element("password").focus();
  return !nameError && !passwordError;
}

function explain(error) {
  switch (error.code) {
    case "M_USER_IN_USE":
    case "M_INVALID_USERNAME":
    case "M_EXCLUSIVE":
      fieldError("name", error.code === "M_USER_IN_USE" ? "This user name is taken." : error.message);
      element("name").focus();
      break;
    case "M_WEAK_PASSWORD":
      fieldError("password", error.message || "Choose a stronger password.");
      element("password").focus();
      break;
    case "TOKEN":
      show("expired");
      break;
    case "M_LIMIT_EXCEEDED":
      element("form-error").textContent = "Too many tries: wait a minute, then try again.";
      break;
    default:
      element("form-error").textContent = error instanceof Refused
        ? error.message
        : "The node does not answer. Is it still running? Then try again.";
  }
}

async function submit(event) {
  event.preventDefault();
  const token = tokenOfLink();
  const username = element("name").value.trim();
  const password = element("password").value;
  element("form-error").textContent = "";
  if (!token || !check(username, password)) return;
  const button = element("submit");
  button.disabled = true;
  announce("Making the account.");
  try {
    const user = await register(token, username, password);
    element("done-user").textContent = user || `@${username}:${document.documentElement.dataset.serverName}`;
    element("form").reset();
    // The link is used up: it need not stay in the history.
    history.replaceState(null, "", location.pathname);
    show("done");
    element("done-title").focus();
    announce("The account is ready.");
  } catch (error) {
    announce("");
    explain(error);
  } finally {
    button.disabled = false;
  }
}

async function open() {
  const token = tokenOfLink();
  if (!token) {
    show("running");
    return;
  }
  show("setup");
  element("name").focus();
  try {
    const { status, answer } = await call("GET", `${VALIDITY}?token=${encodeURIComponent(token)}`);
    if (status === 403 || (status === 200 && answer.valid === false)) show("expired");
  } catch {
    // The form tells it when it is sent.
  }
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(element(button.dataset.copy).textContent);
    announce("Copied.");
    button.textContent = "Copied";
  } catch {
    // No clipboard outside of a secure context: mark the text instead, so that the keyboard can copy it.
    getSelection().selectAllChildren(element(button.dataset.copy));
    announce("Selected: copy it with the keyboard.");
  }
}

element("form").addEventListener("submit", submit);
element("show").addEventListener("click", () => {
  const field = element("password");
  const visible = field.type === "password";
  field.type = visible ? "text" : "password";
  element("show").textContent = visible ? "Hide" : "Show";
  element("show").setAttribute("aria-pressed", String(visible));
});
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
addEventListener("hashchange", open);
open();
