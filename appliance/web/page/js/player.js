/** Plays several media elements as one: one leads, the others are kept at its time. */

const STRAY_S = 0.02;
const JUMP_S = 0.25;

/**
 * A picture and a sound that may each exist twice, before and after.
 *
 * The first element leads. Events: "time" (the time, the length or playing has changed), "ready" (all can play),
 * "trouble" (one cannot be played).
 */
export class SyncPlayer extends EventTarget {
  constructor(elements, { frameRate = 25 } = {}) {
    super();
    this.elements = elements;
    this.lead = elements[0];
    this.followers = elements.slice(1);
    this.frameRate = frameRate;
    this.rate = 1;
    this.frame = 0;
    for (const element of elements) {
      element.preload = "auto";
      element.addEventListener("loadeddata", () => this.#noticeReady());
      element.addEventListener("error", () => this.dispatchEvent(new Event("trouble")));
    }
    for (const name of ["timeupdate", "durationchange", "play", "pause", "seeked"]) {
      this.lead.addEventListener(name, () => this.#tell());
    }
    this.lead.addEventListener("play", () => this.#startFollowing());
    this.lead.addEventListener("pause", () => this.#stopFollowing());
    this.lead.addEventListener("ended", () => this.#stopFollowing());
  }

  /** Take one more element, which follows the first from now on. */
  follow(element) {
    element.preload = "auto";
    this.elements.push(element);
    this.followers.push(element);
    element.addEventListener("loadeddata", () => {
      element.currentTime = this.lead.currentTime;
      this.#noticeReady();
    });
  }

  get isPlaying() {
    return !this.lead.paused && !this.lead.ended;
  }

  get time() {
    return this.lead.currentTime;
  }

  get length() {
    return Number.isFinite(this.lead.duration) ? this.lead.duration : 0;
  }

  get isReady() {
    return this.elements.every((element) => element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA);
  }

  /** Play, or pause at the same moment in all. */
  async toggle() {
    if (this.isPlaying) {
      this.lead.pause();
      return;
    }
    if (this.lead.ended) this.seek(0);
    try {
      await Promise.all(this.elements.map((element) => element.play()));
    } catch (error) {
      // A pause while the start is still under way is no fault.
      if (error.name !== "AbortError") this.dispatchEvent(new Event("trouble"));
    }
  }

  /** Go to a time in all elements. */
  seek(time) {
    const place = Math.min(Math.max(0, time), this.length || Infinity);
    for (const element of this.elements) element.currentTime = place;
    this.#tell();
  }

  /** Go some pictures forwards (or backwards, if negative) and stop there. */
  step(frames) {
    this.lead.pause();
    const number = Math.floor(this.time * this.frameRate + 0.01) + frames;
    // The middle of a picture's time: at its very beginning rounding may show its neighbour.
    this.seek(Math.min((number + 0.5) / this.frameRate, Math.max(0, this.length - 0.5 / this.frameRate)));
  }

  /** Play slower or faster. */
  setRate(rate) {
    this.rate = rate;
    for (const element of this.elements) element.playbackRate = rate;
  }

  /** Stop and let go of what was loaded. */
  close() {
    this.#stopFollowing();
    for (const element of this.elements) {
      element.pause();
      element.removeAttribute("src");
      element.load();
    }
  }

  #startFollowing() {
    cancelAnimationFrame(this.frame);
    const follow = () => {
      for (const follower of this.followers) this.#pull(follower);
      this.#tell();
      this.frame = requestAnimationFrame(follow);
    };
    follow();
  }

  #stopFollowing() {
    cancelAnimationFrame(this.frame);
    for (const follower of this.followers) {
      follower.pause();
      follower.playbackRate = this.rate;
      if (!this.lead.ended) follower.currentTime = this.lead.currentTime;
    }
    this.#tell();
  }

  // A small stray is caught up by a slightly other speed, which neither jumps nor clicks; a large one by a jump.
  #pull(follower) {
    const stray = follower.currentTime - this.lead.currentTime;
    if (follower.seeking || follower.ended) return;
    if (follower.paused && this.isPlaying) follower.play().catch(() => {});
    if (Math.abs(stray) > JUMP_S) follower.currentTime = this.lead.currentTime;
    const share = Math.abs(stray) > STRAY_S ? Math.max(-0.1, Math.min(0.1, -stray)) : 0;
    const rate = this.rate * (1 + share);
    if (Math.abs(follower.playbackRate - rate) > 0.005) follower.playbackRate = rate;
  }

  #noticeReady() {
    this.#tell();
    if (this.isReady) this.dispatchEvent(new Event("ready"));
  }

  #tell() {
    this.dispatchEvent(new Event("time"));
  }
}
