import { ISignal } from '@lumino/signaling';
import * as React from 'react';

/** Draw a component again when something that it reads has changed. */
export function useChanges(changed: ISignal<unknown, unknown>): void {
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const slot = (): void => redraw();
    changed.connect(slot);
    return () => {
      changed.disconnect(slot);
    };
  }, [changed]);
}
