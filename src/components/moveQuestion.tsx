import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

export interface IMoveQuestionProps {
  /** What the kernel is called. */
  title: string;
  /** What it will have: "2 CPU · 4 GiB". */
  size: string;
  isBusy: boolean;
  /** Why it cannot have that where it is; empty where nobody has said so. */
  refusal: string;
  trans: TranslationBundle;
}

/** What a user consents to who lets a kernel be moved to another pod. */
export function MoveQuestion(props: IMoveQuestionProps): JSX.Element {
  const { title, size, refusal, trans } = props;
  return (
    <div className="jp-Elastic-move">
      {refusal && <p>{refusal}</p>}
      <p>{trans.__('"%1" gets another pod with %2.', title, size)}</p>
      <p>
        <strong>{trans.__('All its variables are lost.')}</strong>{' '}
        {trans.__('The notebook and its outputs stay; run the cells again.')}
      </p>
      {props.isBusy && <p>{trans.__('The cell that runs now is ended.')}</p>}
    </div>
  );
}
