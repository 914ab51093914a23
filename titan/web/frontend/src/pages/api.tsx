// What /openapi.json says, for people: each call with what it takes and answers.
import { useEffect, useState } from "preact/hooks";
import { ApiError, get } from "../api";
import { useTitle } from "../parts/page";
import { Empty, Panel, Problem } from "../parts/small";

interface Schema {
  $ref?: string;
  type?: string | string[];
  enum?: unknown[];
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: boolean | Schema;
  required?: string[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  description?: string;
  format?: string;
  default?: unknown;
}

interface Parameter {
  $ref?: string;
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema?: Schema;
}

type Content = Record<string, { schema?: Schema }>;

interface Operation {
  summary?: string;
  description?: string;
  tags?: string[];
  parameters?: Parameter[];
  requestBody?: { content?: Content };
  responses?: Record<string, { $ref?: string; description?: string; content?: Content }>;
}

interface Document {
  servers?: { url: string }[];
  info: { title: string; version: string; description?: string };
  paths: Record<string, Record<string, unknown>>;
  components?: { schemas?: Record<string, Schema>; parameters?: Record<string, Parameter>; responses?: Record<string, { description?: string; content?: Content }> };
}

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEPTH_MAX = 3;

export function ApiPage() {
  const [document, setDocument] = useState<Document | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  useTitle("API");
  useEffect(() => {
    const abort = new AbortController();
    get<Document>("/openapi.json", abort.signal).then(setDocument, (problem: unknown) => {
      if (!abort.signal.aborted) setError(problem as ApiError);
    });
    return () => abort.abort();
  }, []);
  if (!document) return error ? <Problem error={error} /> : <Empty>Loading…</Empty>;
  return (
    <article class="api">
      <h1>{document.info.title}</h1>
      <p class="prose">
        <Marked text={document.info.description} />
      </p>
      <p class="prose">
        The document itself, for tools: <a href="/openapi.json">/openapi.json</a>, of Titan {document.info.version}. Paths begin with{" "}
        <code>{document.servers?.[0]?.url ?? "/"}</code>.
      </p>
      {byTag(document).map(([tag, calls]) => (
        <Panel key={tag} title={tag}>
          {calls.map(({ path, method, operation }) => (
            <details class="call" key={method + path}>
              <summary>
                <span class={`method method-${method}`}>{method.toUpperCase()}</span> <code>{path}</code>{" "}
                <span class="fine">
                  <Marked text={operation.summary} />
                </span>
              </summary>
              <CallDetails operation={operation} document={document} />
            </details>
          ))}
        </Panel>
      ))}
    </article>
  );
}

interface Call {
  path: string;
  method: string;
  operation: Operation;
}

function byTag(document: Document): [string, Call[]][] {
  const found = new Map<string, Call[]>();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of METHODS) {
      const operation = item[method] as Operation | undefined;
      if (!operation) continue;
      // Those of the whole path hold for each of its calls.
      const parameters = [...((item["parameters"] as Parameter[] | undefined) ?? []), ...(operation.parameters ?? [])];
      const tag = operation.tags?.[0] ?? "Calls";
      found.set(tag, [...(found.get(tag) ?? []), { path, method, operation: { ...operation, parameters } }]);
    }
  }
  return [...found];
}

function CallDetails({ operation, document }: { operation: Operation; document: Document }) {
  const parameters = (operation.parameters ?? []).map((each) =>
    each.$ref ? (document.components?.parameters?.[nameOf(each.$ref)] ?? each) : each,
  );
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema;
  return (
    <div class="call-body">
      {operation.description ? (
        <p class="prose">
          <Marked text={operation.description} />
        </p>
      ) : null}
      {parameters.length > 0 ? (
        <>
          <h3>Takes</h3>
          <dl class="parameters">
            {parameters.map((each) => (
              <div key={each.in + each.name}>
                <dt>
                  <code>{each.name}</code> <small>{typeText(each.schema)}{each.required ? ", required" : ""}</small>
                </dt>
                <dd>
                  <Marked text={each.description} />
                </dd>
              </div>
            ))}
          </dl>
        </>
      ) : null}
      {body ? (
        <>
          <h3>Body</h3>
          <SchemaView schema={body} document={document} depth={0} />
        </>
      ) : null}
      <h3>Answers</h3>
      {Object.entries(operation.responses ?? {}).map(([status, given]) => {
        const response = given.$ref ? (document.components?.responses?.[nameOf(given.$ref)] ?? given) : given;
        const [kind, content] = Object.entries(response.content ?? {})[0] ?? [];
        return (
          <div key={status}>
            <p>
              <code>{status}</code> <Marked text={response.description} /> {kind && kind !== "application/json" ? <small>{kind}</small> : null}
            </p>
            {content?.schema && status.startsWith("2") ? <SchemaView schema={content.schema} document={document} depth={0} /> : null}
          </div>
        );
      })}
    </div>
  );
}

function SchemaView({ schema, document, depth }: { schema: Schema; document: Document; depth: number }) {
  const found = resolved(schema, document);
  const inner = found.items ? resolved(found.items, document) : found;
  const properties = Object.entries({
    ...inner.properties,
    ...Object.assign({}, ...(inner.allOf ?? []).map((each) => resolved(each, document).properties)),
  }) as [string, Schema][];
  if (properties.length === 0) return <p class="fine">{typeText(schema) || found.description}</p>;
  return (
    <dl class="schema">
      {properties.map(([name, each]) => {
        const target = resolved(each, document);
        const nested = target.items ? resolved(target.items, document) : target;
        return (
          <div key={name}>
            <dt>
              <code>{name}</code> <small>{typeText(each)}</small>
            </dt>
            <dd>
              <Marked text={each.description ?? target.description} />
              {nested.properties && depth < DEPTH_MAX ? <SchemaView schema={nested} document={document} depth={depth + 1} /> : null}
            </dd>
          </div>
        );
      })}
    </dl>
  );
}

/** Text in which names stand between backticks. */
function Marked({ text }: { text: string | undefined }) {
  return <>{(text ?? "").split("`").map((part, place) => (place % 2 === 1 ? <code key={place}>{part}</code> : part))}</>;
}

function nameOf(reference: string): string {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

function resolved(schema: Schema, document: Document): Schema {
  return schema.$ref ? (document.components?.schemas?.[nameOf(schema.$ref)] ?? {}) : schema;
}

/** `number | null`, `list of Job`. */
function typeText(schema: Schema | undefined): string {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeText).join(" | ");
  if (schema.items) return `list of ${typeText(schema.items) || "values"}`;
  return Array.isArray(schema.type) ? schema.type.join(" | ") : (schema.type ?? "");
}
