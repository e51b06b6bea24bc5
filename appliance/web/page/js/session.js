/** The logged-in user and their permissions. */

import { get, post, setCsrfToken } from "./api.js";
import { useLanguage } from "./language.js";

let session = { user: null, csrf: "", setup_needed: false, version: "", revision: 0 };

/** Load the session from the server. */
export async function loadSession() {
  session = await get("/api/session", {}, { quiet: true });
  setCsrfToken(session.csrf);
  await useLanguage(session.user?.language ?? "");
  return session;
}

/** Return the session as last loaded. */
export function currentSession() {
  return session;
}

/** Forget the user because the session has ended. */
export function dropSession() {
  session = { ...session, user: null };
}

/** Log in with a user name and a password. */
export async function logIn(name, password) {
  await post("/api/login", { name, password }, { quiet: true });
  return loadSession();
}

/** Log out; the page forgets the user even if the server cannot be reached. */
export async function logOut() {
  try {
    await post("/api/logout", {}, { quiet: true });
  } finally {
    dropSession();
  }
}

/** Return whether the user is an administrator. */
export function mayAdminister() {
  return session.user?.role === "administrator";
}

/** Describe who can see the jobs of this user. */
export function describeAudience() {
  return session.own_jobs_only ? "you and the administrators" : "everyone with an account";
}

/** Return whether the user may upload files and create jobs. */
export function mayUpload() {
  return mayAdminister() || session.user?.role === "operator";
}

/** Return whether the user may pause, cancel or reorder this job. */
export function mayManage(job) {
  return mayAdminister() || (mayUpload() && job.owner === session.user.id);
}

/** The roles with label and description. */
export const ROLES = {
  administrator: { word: "Administrator", sentence: "Full access, including users and settings." },
  operator: { word: "Operator", sentence: "Can upload files, and start and manage their own jobs." },
  viewer: { word: "Viewer", sentence: "Can view jobs and download results." },
};
