/** The page's own words for the codes of the server's errors; the server's sentence serves where there is no entry. */

const SENTENCES = {
  busy: "The server is busy. Try again in a moment.",
  csrf: "This page is out of date. Reload it and try again.",
  disk_full: "The server’s disk is full. Delete old results, or ask an administrator.",
  host: "Relume does not know this address. Open it by its IP address, or add the name under Settings, Host names.",
  login_needed: "You are logged out. Log in again, then repeat what you did.",
  password_change_needed: "Change your password first.",
  setup_link: "This setup link has expired. Use the latest link shown by relume serve, or log in.",
  too_many: "Too many pages of Relume are open. Close some, then reload this one.",
  unexpected: "Unexpected error. The server log has the details.",
  wrong_password: "The current password is wrong.",
};

/** Give the sentence for an error's code, or null where the server's own sentence says more. */
export function describeError(code) {
  return SENTENCES[code] ?? null;
}
