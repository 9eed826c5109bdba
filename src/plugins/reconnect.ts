import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { DocumentRegistry } from '@jupyterlab/docregistry';
import { dismissTitled, saveAgain } from '../labDialogs';
import { ElasticModel } from '../model';
import { IElasticModel, PACKAGE } from '../tokens';

/** Milliseconds between two attempts to reach a server that did not answer. */
const INTERVAL = 2000;

/**
 * Elastic kernels run on while their server is away. When it is back, Lab's word on the lost
 * connection is no longer true: take it away, and say how things stand.
 */
export const reconnectPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:reconnect`,
  description: 'Goes on by itself after the server was away.',
  autoStart: true,
  requires: [IElasticModel],
  optional: [ITranslator, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    translator: ITranslator | null,
    notebooks: INotebookTracker | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    let isAway = false;
    const onAway = (): void => {
      if (isAway || !model.kernels.length) {
        return;
      }
      isAway = true;
      void comeBack(model).then(() => {
        isAway = false;
        dismissTitled('Server Connection Error', translator);
        void saveAgain(openIn(app.shell), translator);
        const count = model.kernels.filter(one => one.phase === 'Running').length;
        if (count) {
          Notification.success(
            trans._n(
              'The server is back. %1 elastic kernel ran on.',
              'The server is back. %1 elastic kernels ran on.',
              count
            ),
            { autoClose: 5000 }
          );
        }
      });
    };
    app.serviceManager.connectionFailure.connect(onAway);
    notebooks?.widgetAdded.connect((_, { context }) => {
      context.saveState.connect(async (_, state) => {
        if (state === 'failed') {
          // Lab may notice later than this that the server is away, or not at all.
          await model.refresh().catch(() => undefined);
          if (model.problem) {
            onAway();
          }
        }
      });
    });
  }
};

/** The documents in the main area. */
function openIn(shell: JupyterFrontEnd.IShell): DocumentRegistry.Context[] {
  return [...shell.widgets('main')].flatMap(widget => {
    const { context } = widget as { context?: DocumentRegistry.Context };
    return context?.localPath ? [context] : [];
  });
}

/** Resolves when the server answers again; asks only while somebody looks. */
export async function comeBack(
  model: ElasticModel,
  interval = INTERVAL
): Promise<void> {
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, interval));
    if (model.isDisposed) {
      return;
    }
    if (!document.hidden) {
      // A failure is in `model.problem`.
      await model.refresh().catch(() => undefined);
      if (!model.problem) {
        return;
      }
    }
  }
}
