import * as React from 'react';
import { nearestStep } from '../quantities';
import { ILimits, isAllowed, isFixed } from '../resources';
import { Select } from './select';

export interface IResourceFieldProps {
  label: string;
  /** In base units. */
  value: number;
  limits: ILimits;
  /** What the slider may stand on. */
  steps: number[];
  /** For people: "1.5 GiB". */
  show: (value: number) => string;
  /** What was typed as base units; null if it cannot be read. */
  read: (text: string) => number | null;
  /** Beside the field: what is left. */
  hint?: string;
  /** More of that, on hover. */
  about?: string;
  /** The sentence for a value that cannot be had. */
  problem: string;
  /** The sentence for what cannot be read. */
  unreadable: string;
  disabled?: boolean;
  /** `value` is null while what is typed cannot be had. */
  onChange: (value: number | null) => void;
}

/** One resource: a slider over sensible steps, and a field for any value between. */
export function ResourceField(props: IResourceFieldProps): JSX.Element {
  const { label, value, limits, steps, show, read, onChange, disabled, hint } = props;
  const id = React.useId();
  // What is being typed; null when the field just shows the value.
  const [draft, setDraft] = React.useState<string | null>(null);
  React.useEffect(() => {
    // The value was set from elsewhere: what was typed before is no longer meant.
    setDraft(text => (text !== null && read(text) === value ? text : null));
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [value]);
  const typed = draft === null ? value : read(draft);
  const isWrong = typed === null || !isAllowed(typed, limits);

  const set = (next: number): void => {
    setDraft(null);
    onChange(next);
  };
  const type = (text: string): void => {
    setDraft(text);
    const next = read(text);
    onChange(next !== null && isAllowed(next, limits) ? next : null);
  };
  const step = (by: number): void => {
    const next = steps[nearestStep(steps, value) + by];
    if (next !== undefined) {
      set(next);
    }
  };

  let input: JSX.Element;
  let slider: JSX.Element | null = null;
  if (isFixed(limits)) {
    input = (
      <output id={id} className="jp-Elastic-fixed">
        {show(value)}
      </output>
    );
  } else if (limits.choices.length) {
    const choices = limits.choices.includes(value)
      ? limits.choices
      : [value, ...limits.choices];
    input = (
      <Select
        id={id}
        value={value}
        disabled={disabled}
        onChange={event => set(Number(event.target.value))}
      >
        {choices.map(choice => (
          <option key={choice} value={choice}>
            {show(choice)}
          </option>
        ))}
      </Select>
    );
  } else {
    input = (
      <input
        id={id}
        type="text"
        className="jp-mod-styled jp-Elastic-number"
        inputMode="decimal"
        autoComplete="off"
        spellCheck={false}
        value={draft ?? show(value)}
        disabled={disabled}
        aria-invalid={isWrong}
        aria-describedby={isWrong || hint ? `${id}-note` : undefined}
        onChange={event => type(event.target.value)}
        onFocus={event => event.target.select()}
        onBlur={() => {
          if (!isWrong) {
            setDraft(null);
          }
        }}
        onKeyDown={event => {
          if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
            event.preventDefault();
            step(event.key === 'ArrowUp' ? 1 : -1);
          } else if (event.key === 'Escape' && draft !== null) {
            event.stopPropagation();
            set(value);
          }
        }}
      />
    );
    slider = (
      <input
        type="range"
        className="jp-Elastic-slider"
        min={0}
        max={steps.length - 1}
        step={1}
        value={nearestStep(steps, value)}
        disabled={disabled}
        aria-label={label}
        aria-valuetext={show(value)}
        onChange={event => set(steps[Number(event.target.value)])}
      />
    );
  }
  return (
    <div className="jp-Elastic-field">
      <div className="jp-Elastic-field-row">
        <label htmlFor={id}>{label}</label>
        {hint && !isWrong && (
          <span id={`${id}-note`} className="jp-Elastic-hint" title={props.about}>
            {hint}
          </span>
        )}
        {input}
      </div>
      {slider}
      {isWrong && (
        <div id={`${id}-note`} className="jp-Elastic-field-problem" role="alert">
          {typed === null && !isZero(draft ?? '') ? props.unreadable : props.problem}
        </div>
      )}
    </div>
  );
}

/** Nought is no quantity, but it can be read. */
function isZero(text: string): boolean {
  return text.trim() !== '' && Number(text) === 0;
}
