import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { CurrentDocument } from '../current';
import { readLink, withoutLink } from '../link';
import { loadLazy } from '../loadLazy';
import { ElasticModel } from '../model';
import { IElasticActions, IElasticModel, PACKAGE } from '../tokens';

/** Milliseconds to wait for a notebook that the address names as well. */
const PATIENCE = 10_000;

/** An address may ask for a kernel; the user is shown what, and starts it or does not. */
export const linkPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:link`,
  description: 'Follows links that ask for a kernel.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { actions, current }: IElasticActions,
    translator: ITranslator | null
  ) => {
    const { href, search, pathname } = window.location;
    const asked = readLink(search);
    if (!asked) {
      return;
    }
    // A page that is loaded again must not ask again.
    window.history.replaceState(window.history.state, '', withoutLink(href));
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    const follow = async (): Promise<void> => {
      await app.restored;
      await until(model, current, () => model.isReady);
      if (pathname.endsWith('.ipynb')) {
        await until(model, current, () => current.sessionContext !== null);
      }
      const { showStartDialog } = await loadLazy();
      await showStartDialog({
        model,
        actions,
        trans,
        asked,
        target: current.sessionContext ? current.name : '',
        isNew: !current.sessionContext,
        iconUrl: path => new URL(path, app.serviceManager.serverSettings.baseUrl).href
      });
    };
    follow().catch(error =>
      actions.showProblem(trans.__('Cannot follow the link'), error)
    );
  }
};

/** Resolves when that is so, or when it has not become so for a while. */
async function until(
  model: ElasticModel,
  current: CurrentDocument,
  isSo: () => boolean
): Promise<void> {
  if (isSo()) {
    return;
  }
  await new Promise<void>(resolve => {
    const look = (): void => {
      if (isSo()) {
        done();
      }
    };
    const timer = setTimeout(() => done(), PATIENCE);
    const done = (): void => {
      clearTimeout(timer);
      model.changed.disconnect(look);
      current.changed.disconnect(look);
      resolve();
    };
    model.changed.connect(look);
    current.changed.connect(look);
  });
}
