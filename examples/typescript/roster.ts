// A client whose types come from the service's OpenAPI document: a wrong path, field or role does not compile.
// `make client` checks it. To run it: start the service with `make run`, then `npm start` in this folder (Node.js 22.18 or newer).

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.d.ts";

type Problem = components["schemas"]["Problem"];
type ClassMember = components["schemas"]["ClassMember"];

const client = createClient<paths>({
  baseUrl: "http://127.0.0.1:8000",
  headers: { "Roster-Reason": "start of term" },
});

/** A refused command: `type` names the rule that refused it, `detail` says what that means here. */
class Refused extends Error {
  constructor(problem: Problem) {
    super(`${problem.status} ${problem.title}: ${problem.detail ?? problem.type}`);
  }
}

function orRefused(problem: Problem | undefined): void {
  if (problem !== undefined) {
    throw new Refused(problem);
  }
}

/** The ids are ours, so whoever repeats a call after a lost connection creates nothing twice. */
async function createClass(groupId: string, classId: string): Promise<void> {
  orRefused((await client.POST("/v1/groups", { body: { id: groupId, name: "Science" } })).error);
  orRefused((await client.POST("/v1/classes", { body: { id: classId, group_id: groupId, name: "Physics 2" } })).error);
}

async function enrol(classId: string, userId: string, role: ClassMember["role"]): Promise<void> {
  orRefused((await client.POST("/v1/users", { body: { id: userId } })).error);
  const path = { class_id: classId };
  orRefused((await client.POST("/v1/classes/{class_id}/members", { params: { path }, body: { user_id: userId, role } })).error);
}

/** Every member of a class, read page by page. */
async function* roster(classId: string): AsyncGenerator<ClassMember> {
  let cursor: string | undefined;
  do {
    const params = { path: { class_id: classId }, query: { limit: 2, cursor } };
    const { data, error } = await client.GET("/v1/classes/{class_id}/members", { params });
    orRefused(error);
    yield* data?.items ?? [];
    cursor = data?.next_cursor ?? undefined;
  } while (cursor !== undefined);
}

const [groupId, classId, teacher] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
await createClass(groupId, classId);
await enrol(classId, teacher, "teacher");
for (const student of [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()]) {
  await enrol(classId, student, "student");
}

for await (const member of roster(classId)) {
  console.log(`${member.role} ${member.user_id}, enrolled ${member.created_at}`);
}

try {
  await enrol(classId, teacher, "student");
} catch (error) {
  if (!(error instanceof Refused)) {
    throw error;
  }
  console.log(`Refused, as it should be: ${error.message}`);
}
