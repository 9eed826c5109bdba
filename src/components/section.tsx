import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

export interface ISectionProps {
  title: string;
  /** Short figure beside the title. */
  badge?: string;
  isOpen: boolean;
  onToggle: (isOpen: boolean) => void;
  children: React.ReactNode;
}

/** A titled part of the panel that folds. */
export function Section(props: ISectionProps): JSX.Element {
  const id = React.useId();
  const Caret = props.isOpen ? caretDownIcon.react : caretRightIcon.react;
  return (
    <section className="jp-Elastic-section" aria-labelledby={`${id}-title`}>
      <h3 className="jp-Elastic-section-title">
        <button
          type="button"
          id={`${id}-title`}
          aria-expanded={props.isOpen}
          aria-controls={`${id}-body`}
          onClick={() => props.onToggle(!props.isOpen)}
        >
          <Caret tag="span" className="jp-Elastic-caret" />
          <span className="jp-Elastic-section-name">{props.title}</span>
          {props.badge && <span className="jp-Elastic-badge">{props.badge}</span>}
        </button>
      </h3>
      <div id={`${id}-body`} className="jp-Elastic-section-body" hidden={!props.isOpen}>
        {props.isOpen && props.children}
      </div>
    </section>
  );
}
