import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { ICapacity, IKernel, IResourceWish, ITemplate } from '../request';
import { hasLess, IResizeState } from '../resize';
import {
  IResourceValue,
  sameValue,
  showResources,
  showValue,
  toValue,
  toWish
} from '../resources';
import { ResizeStatus } from './resizeStatus';
import { ResourceForm } from './resourceForm';

export interface IResizeFormProps {
  kernel: IKernel;
  template: ITemplate;
  capacity: ICapacity | null;
  resize: IResizeState | null;
  canResize: boolean;
  trans: TranslationBundle;
  onResize: (wish: IResourceWish) => void;
  onMove: (wish: IResourceWish, refusal?: string) => void;
  onEdit: () => void;
}

/** Another size for a running kernel, and how the last change stands. */
export const ResizeForm = React.memo(function ResizeForm(
  props: IResizeFormProps
): JSX.Element {
  const { kernel, template, resize, trans } = props;
  const held = toValue(kernel.resources);
  // What the user has set but not applied; null when the form just shows what is.
  const [wanted, setWanted] = React.useState<IResourceValue | null>(null);
  const [isValid, setIsValid] = React.useState(true);
  // Remounts the form, so that a half-typed field is forgotten too.
  const [round, setRound] = React.useState(0);
  const isApplying = resize?.state === 'applying';
  const value = wanted ?? held;
  const hasChanged = !sameValue(value, held);
  const wish = toWish(value, held);
  // A pod has the GPUs that it began with.
  const needsMove = wish.gpu !== undefined;
  const id = React.useId();

  const isDone = resize?.state === 'done';
  React.useEffect(() => {
    if (isDone) {
      setWanted(null);
    }
  }, [isDone]);

  return (
    <form
      className="jp-Elastic-resizeForm"
      aria-label={trans.__('Resize this kernel')}
      onSubmit={event => {
        event.preventDefault();
        if (hasChanged && isValid && props.canResize && !isApplying) {
          (needsMove ? props.onMove : props.onResize)(wish);
        }
      }}
    >
      <ResourceForm
        key={round}
        offer={template.resources}
        value={value}
        held={held}
        capacity={props.capacity}
        disabled={!props.canResize || isApplying}
        trans={trans}
        onChange={(next, valid) => {
          setWanted(next);
          setIsValid(valid);
          props.onEdit();
        }}
      />
      {needsMove && (
        <div id={id} className="jp-Elastic-hint">
          {trans.__('Other GPUs need another pod, and the variables are lost.')}
        </div>
      )}
      {resize?.state === 'refused' && kernel.actual && hasLess(kernel) && (
        <div className="jp-Elastic-hint">
          {trans.__('For now the kernel has %1.', showResources(kernel.actual))}
        </div>
      )}
      <div className="jp-Elastic-buttons">
        <button
          type="submit"
          className="jp-mod-styled jp-mod-accept"
          disabled={!hasChanged || !isValid || !props.canResize || isApplying}
          title={hasChanged ? showValue(value) : undefined}
          aria-describedby={needsMove ? id : undefined}
        >
          {trans.__('Apply')}
        </button>
        {(hasChanged || !isValid) && !isApplying && (
          <button
            type="button"
            className="jp-mod-styled jp-mod-reject"
            onClick={() => {
              setWanted(null);
              setIsValid(true);
              setRound(round + 1);
              props.onEdit();
            }}
          >
            {trans.__('Reset')}
          </button>
        )}
      </div>
      <ResizeStatus
        state={resize}
        canMove={props.canResize}
        trans={trans}
        onMove={refusal => props.onMove(refusal.wish, refusal.message)}
      />
    </form>
  );
});
