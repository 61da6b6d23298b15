/** The form that asks for a key, or for a name and a password. */

import { useId, useState } from "preact/hooks";
import { accepts, basic, bearer, setCredentials, signInWanted } from "../api.ts";
import { CheckField, Segments } from "./fields.tsx";
import { Dialog } from "./dialog.tsx";

type Kind = "key" | "user";

export function SignIn({ done }: { done: () => void }) {
  const users = document.documentElement.dataset["users"] === "true";
  const keys = document.documentElement.dataset["keys"] === "true";
  const [kind, setKind] = useState<Kind>(users && !keys ? "user" : "key");
  const [name, setName] = useState("");
  const [secret, setSecret] = useState("");
  const [keep, setKeep] = useState(false);
  const [problem, setProblem] = useState("");
  if (!signInWanted.value) return null;
  const enter = async () => {
    const value = kind === "key" ? bearer(secret.trim()) : basic(name, secret);
    try {
      if (!(await accepts(value))) {
        setProblem(kind === "key" ? "The server does not know this key." : "Name or password is wrong.");
        return;
      }
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      return;
    }
    setCredentials(value, keep);
    setSecret("");
    setProblem("");
    signInWanted.value = false;
    done();
  };
  return (
    <Dialog title="Sign in" class="sign-in">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void enter();
        }}
      >
        {users === keys && (
          <Segments
            label="Sign in with"
            value={kind}
            choices={[
              { value: "key", label: "Key" },
              { value: "user", label: "Name and password" },
            ]}
            change={setKind}
          />
        )}
        {kind === "user" && <Line label="Name" first value={name} change={setName} />}
        <Line label={kind === "key" ? "Key" : "Password"} first={kind === "key"} secret value={secret} change={setSecret} />
        <CheckField label="Stay signed in on this device" value={keep} change={setKeep} />
        <p class="bad" role="alert">
          {problem}
        </p>
        <button type="submit" class="main">
          Sign in
        </button>
      </form>
    </Dialog>
  );
}

/** A text to type; `first`: it has the focus when the dialogue opens. */
function Line(props: { label: string; first?: boolean; secret?: boolean; value: string; change: (value: string) => void }) {
  const id = useId();
  const { value, change } = props;
  const typed = (event: Event & { currentTarget: HTMLInputElement }) => change(event.currentTarget.value);
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.secret ? (
        <input id={id} type="password" autocomplete="current-password" autofocus={props.first} value={value} onInput={typed} />
      ) : (
        <input id={id} type="text" autocomplete="username" autofocus={props.first} value={value} onInput={typed} />
      )}
    </div>
  );
}
