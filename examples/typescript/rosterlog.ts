// What every program with a generated client needs, and no generator makes: refusals as errors, lists page by page, and what
// is recorded but not visible yet. Copy this file into your own program.

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.d.ts";

export type Problem = components["schemas"]["Problem"];
export type Accepted = components["schemas"]["Accepted"];

/** Histories and rosters come as CSV and NDJSON, too. A client for these media types has no other answers than JSON. */
type Json = "application/json" | "application/problem+json";

/** A client of the service at `baseUrl`. `headers` go with every request: a token, or who gives the commands and why. */
export function connect(baseUrl: string, headers: Record<string, string> = {}) {
  return createClient<paths, Json>({ baseUrl, headers });
}

/** A refused request: `problem.type` names the rule, `problem.detail` says what that means here. */
export class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.status} ${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** The answer to a request. Throws `Refused`. */
export function done<Answer>(result: { data?: Answer; error?: Problem }): NonNullable<Answer> {
  if (result.error !== undefined) {
    throw new Refused(result.error);
  }
  if (result.data === undefined || result.data === null) {
    throw new Error("The answer has no body.");
  }
  return result.data;
}

/** True where a command is recorded and its change is not visible yet. A read with `min_position` waits for it. */
export function isAccepted(answer: object): answer is Accepted {
  return "position" in answer && "id" in answer;
}

interface Page<Item> {
  items: Item[];
  next_cursor: string | null;
}

/** Every item of a list, page by page. `read` asks for the page at a cursor, and for the first one without. */
export async function* pages<Item>(
  read: (at: { cursor?: string }) => Promise<{ data?: Page<Item>; error?: Problem }>,
): AsyncGenerator<Item> {
  let cursor: string | null = null;
  do {
    const page: Page<Item> = done(await read(cursor === null ? {} : { cursor }));
    yield* page.items;
    cursor = page.next_cursor;
  } while (cursor !== null);
}
