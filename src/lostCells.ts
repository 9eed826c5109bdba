/**
 * Cells whose end nobody heard. A kernel runs on while its server is away; what it says then, also
 * that a cell has ended, is lost, and Lab would show the cell as running for ever.
 */
import { NotebookPanel } from '@jupyterlab/notebook';
import { Kernel } from '@jupyterlab/services';
import { ElasticModel } from './model';

/** Milliseconds that a kernel must have been idle: between two cells it is for a moment. */
const PATIENCE = 3000;

type Future = Kernel.IShellFuture;

export class LostCells {
  constructor(private readonly _options: LostCells.IOptions) {}

  /** Look after the cells of a notebook. */
  watch(panel: NotebookPanel): void {
    const { model, onLost, patience = PATIENCE } = this._options;
    const { sessionContext } = panel;
    const kernelOf = (): Kernel.IKernelConnection | null =>
      sessionContext.session?.kernel ?? null;
    let isConnected = kernelOf()?.connectionStatus === 'connected';
    /** Of cells that ran when the connection was lost. */
    let doubtful: Future[] = [];
    let timer: ReturnType<typeof setTimeout> | null = null;

    /** As Lab has it; where it has heard nothing since it is connected again, as the server has. */
    const seemsIdle = (): boolean => {
      const kernel = kernelOf();
      const known = kernel ? model.kernel(kernel.id) : null;
      return (
        kernel?.connectionStatus === 'connected' &&
        known !== null &&
        (kernel.status === 'idle' ||
          (kernel.status === 'unknown' && known.execution_state === 'idle'))
      );
    };
    const giveUp = async (): Promise<void> => {
      const asked = timer;
      // What the server said last may be older than the cell.
      await model.refresh().catch(() => undefined);
      const id = kernelOf()?.id ?? null;
      if (timer !== asked) {
        return;
      }
      timer = null;
      if (
        panel.isDisposed ||
        !seemsIdle() ||
        model.problem ||
        model.kernel(id)?.execution_state !== 'idle'
      ) {
        return;
      }
      const lost = doubtful.filter(future => !future.isDisposed);
      doubtful = [];
      // Lab's own way to say that there will be no answer.
      lost.forEach(future => future.dispose());
      if (lost.length) {
        onLost(panel, lost.length);
      }
    };
    const look = (): void => {
      if (timer === null && doubtful.length && seemsIdle()) {
        timer = setTimeout(() => void giveUp(), patience);
      }
    };
    const lookAnew = (): void => {
      if (timer !== null) {
        clearTimeout(timer);
        timer = null;
      }
      look();
    };
    sessionContext.connectionStatusChanged.connect((_, status) => {
      if (isConnected && status !== 'connected') {
        doubtful.push(...runningIn(panel));
      }
      isConnected = status === 'connected';
      lookAnew();
    });
    sessionContext.statusChanged.connect(lookAnew);
    model.changed.connect(look);
    panel.disposed.connect(() => model.changed.disconnect(look));
  }
}

/** What the running cells of a notebook wait for. */
function runningIn(panel: NotebookPanel): Future[] {
  return panel.content.widgets.flatMap(cell => {
    const { outputArea } = cell as { outputArea?: { future: Future | null } };
    const future = outputArea?.future;
    return future && !future.isDisposed ? [future] : [];
  });
}

export namespace LostCells {
  export interface IOptions {
    model: Pick<ElasticModel, 'kernel' | 'changed' | 'problem' | 'refresh'>;
    /** So many cells of the notebook are no longer waited for. */
    onLost: (panel: NotebookPanel, count: number) => void;
    /** Milliseconds that a kernel must have been idle. */
    patience?: number;
  }
}
