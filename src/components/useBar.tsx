import * as React from 'react';

export interface IUseBarProps {
  /** What is measured: "Memory". */
  label: string;
  /** Figures for people: "512 MiB of 4 GiB". */
  text: string;
  /** In any unit; null when not known. */
  value: number | null;
  /** Null where there is no limit: then there is no bar. */
  maximum: number | null;
  /** More figures, on hover. */
  caption?: string;
  /** A picture of the time before. */
  children?: React.ReactNode;
}

/** From which part of the limit on a bar warns, and from which it alarms. */
const WARN = 0.8;
const ALARM = 0.95;

/** Part of a limit in use, 0 to 1; null when not known. */
export function partOf(value: number | null, maximum: number): number | null {
  return value === null || !(maximum > 0)
    ? null
    : Math.min(1, Math.max(0, value / maximum));
}

/** The class for how full a bar is. */
export function levelOf(part: number | null): string {
  if (part === null || part < WARN) {
    return 'jp-Elastic-level-fine';
  }
  return part < ALARM ? 'jp-Elastic-level-warn' : 'jp-Elastic-level-alarm';
}

/** Use of one resource against its limit. */
export function UseBar(props: IUseBarProps): JSX.Element {
  const { maximum } = props;
  const part = maximum === null ? null : partOf(props.value, maximum);
  const percent = part === null ? undefined : Math.round(part * 100);
  return (
    <div className="jp-Elastic-use" title={props.caption}>
      <span className="jp-Elastic-use-label">{props.label}</span>
      <span className="jp-Elastic-use-text">{props.text}</span>
      {props.children}
      {maximum !== null && (
        <div
          className="jp-Elastic-bar"
          role="progressbar"
          aria-label={props.label}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={percent}
          aria-valuetext={props.text}
        >
          <div
            className={`jp-Elastic-bar-fill ${levelOf(part)}`}
            style={{ width: `${percent ?? 0}%` }}
          />
        </div>
      )}
    </div>
  );
}
