import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PathExt } from '@jupyterlab/coreutils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { DocumentRegistry } from '@jupyterlab/docregistry';
import { PACKAGE } from '../tokens';

/**
 * Notebooks that are renamed while their kernel starts, which may take a minute where a pod is made
 * for it. Lab tells the session of a new name only once there is one: without this it keeps the old
 * one, and the notebook, opened again, would not find its kernel.
 */
export const renamesPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:renames`,
  description:
    'Gives a session the name that its notebook got while the kernel started.',
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_: JupyterFrontEnd, notebooks: INotebookTracker) => {
    notebooks.widgetAdded.connect((_, { context }) => {
      context.sessionContext.sessionChanged.connect(() => void followRename(context));
      void followRename(context);
    });
  }
};

/** Give the session of a document its path and name, where it has others. */
export async function followRename(context: DocumentRegistry.Context): Promise<void> {
  const { session } = context.sessionContext;
  if (session && session.path !== context.path) {
    await session.setPath(context.path);
    await session.setName(PathExt.basename(context.localPath));
  }
}
