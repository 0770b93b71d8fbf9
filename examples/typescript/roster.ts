// A term's start, with types from the service's OpenAPI document: a wrong path, field, role or event type does not compile.
// `make client` generates the types, compiles this file and runs it. By hand: start the service with `make run`, then
// `npm start -- http://127.0.0.1:8000` in this folder.

import { connect, done, isAccepted, pages, Refused } from "./rosterlog.ts";
import type { operations } from "./schema.d.ts";

declare const process: { argv: string[] };

const client = connect(process.argv[2] ?? "http://127.0.0.1:8000", {
  "Roster-Actor": "example-1",
  "Roster-Reason": "start of term",
});
const [groupId, classId] = [crypto.randomUUID(), crypto.randomUUID()];
const [teacher, students] = [crypto.randomUUID(), Array.from({ length: 4 }, () => crypto.randomUUID())];
const path = { class_id: classId };

// The ids are ours: a call that is repeated after a lost connection creates nothing twice.
for (const _ of ["once", "again"]) {
  done(await client.POST("/v1/groups", { body: { id: groupId, name: "Science" } }));
  const made = done(await client.POST("/v1/classes", { body: { id: classId, group_id: groupId, name: "Physics 2" } }));
  console.log(isAccepted(made) ? `visible from position ${made.position} on` : `${made.name}, version ${made.version}`);
}

// Many in one command, each with its own outcome.
done(await client.POST("/v1/users/batch", { body: { items: [teacher, ...students].map((id) => ({ id })) } }));
const items = students.map((user_id) => ({ class_id: classId, user_id, role: "student" as const }));
const enrolled = done(await client.POST("/v1/enrolments", { body: { items } }));
console.log(`${enrolled.enrolled} enrolled, ${enrolled.refused} refused`);

// Recorded and not waited for; the next read waits until it is visible.
const added = done(
  await client.POST("/v1/classes/{class_id}/members", {
    params: { path, header: { Prefer: "respond-async" } },
    body: { user_id: teacher, role: "teacher" },
  }),
);
const query = isAccepted(added) ? { min_position: added.position, limit: 2 } : { limit: 2 };
for await (const member of pages((at) =>
  client.GET("/v1/classes/{class_id}/members", { params: { path, query: { ...query, ...at } } }),
)) {
  console.log(`${member.role} ${member.user_id}, enrolled ${member.created_at}`);
}

// What happened to the teacher in this class, and the roster as it was before.
// `satisfies` refuses a parameter that there is not; openapi-fetch alone checks those that there are.
const history = {
  path: { user_id: teacher },
  query: { class_id: classId, order: "desc", limit: 1 },
} satisfies operations["getUserHistory"]["parameters"];
const [last] = done(await client.GET("/v1/users/{user_id}/history", { params: history })).items;
if (last?.type === "MemberEnrolled") {
  console.log(`${last.type} by ${last.actor}: ${last.after.role}`);
  const then = done(
    await client.GET("/v1/classes/{class_id}/members", {
      params: { path, query: { at_position: last.position - 1 } },
    }),
  );
  console.log(`${then.items.length} members before`);
}

try {
  done(await client.POST("/v1/classes/{class_id}/members", { params: { path }, body: { user_id: teacher, role: "student" } }));
} catch (error) {
  if (!(error instanceof Refused) || error.problem.type !== "/problems/enrolled-in-other-role") {
    throw error;
  }
  console.log(`Refused, as it should be: ${error.message}`);
}
